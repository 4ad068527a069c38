//! Writes of little in one piece: to copy a few bytes takes less than the kernel does over several pieces.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{io::AsyncWrite, net::TcpStream};

/// Writes what is in these pieces, as much as goes at once.
pub(crate) fn poll_write_pieces(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    if let [piece] = pieces {
        return stream.poll_write(cx, piece);
    }
    match gathered(pieces, &mut [0; GATHERED_BYTES]) {
        Some(bytes) => stream.poll_write(cx, bytes),
        None => stream.poll_write_vectored(cx, pieces),
    }
}

/// The same bytes in one piece, if there are few.
fn gathered<'a>(pieces: &[IoSlice<'_>], room: &'a mut [u8; GATHERED_BYTES]) -> Option<&'a [u8]> {
    let mut end = 0;
    for piece in pieces {
        room.get_mut(end..end + piece.len())?.copy_from_slice(piece);
        end += piece.len();
    }
    Some(&room[..end])
}

/// Enough for the head of an answer and a short body.
const GATHERED_BYTES: usize = 1024;
