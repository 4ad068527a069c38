//! The load as a picture: requests sent, succeeded and limited a second, over time, in SVG.

use std::fmt::Write as _;

use super::{series::Slot, table::Table};

/// The picture of a load that is over.
pub(super) fn svg(table: &Table<'_>) -> String {
    let series = table.series();
    let seconds_a_slot = series.width.as_secs_f64();
    let slots = if series.slots.is_empty() { &[Slot::default()][..] } else { &series.slots };
    #[expect(clippy::cast_precision_loss, reason = "a picture")]
    let rate = |count: u64| count as f64 / seconds_a_slot;
    let highest = slots.iter().map(|slot| slot.sent.max(slot.succeeded).max(slot.limited)).max().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "a picture")]
    let axes = Axes { seconds: slots.len() as f64 * seconds_a_slot, rate: rate(highest.max(1)) };

    let (sent, succeeded, limited) = (table.tally.sent, table.succeeded, table.limited);
    // What is too long for the picture is the URL, if anything.
    let title = format!("{sent} sent, {succeeded} succeeded, {limited} limited: {}", escaped(table.url));
    let steps = |count: fn(&Slot) -> u64| axes.steps(slots.iter().map(|slot| rate(count(slot))), seconds_a_slot);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" fill="#333">
<title>{title}</title>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>
<text x="{LEFT}" y="22" font-size="14">{title}</text>
"##
    );
    axes.draw(&mut svg);
    let (zero, succeeded) = (axes.y(0.0), steps(|slot| slot.succeeded));
    // Writing to a string does not fail, here and below.
    let _ = writeln!(svg, r##"<path d="M{LEFT},{zero}{}V{zero}Z" fill="{SENT}"/>"##, steps(|slot| slot.sent));
    let _ =
        writeln!(svg, r##"<path d="M{LEFT},{zero}{succeeded}" fill="none" stroke="{SUCCEEDED}" stroke-width="1.5"/>"##);
    // A few among many would not be seen in a line.
    for (i, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.limited > 0) {
        #[expect(clippy::cast_precision_loss, reason = "a picture")]
        let x = axes.x((i as f64 + 0.5) * seconds_a_slot);
        let y = axes.y(rate(slot.limited));
        let _ = writeln!(svg, r##"<path d="M{x:.1},{zero}V{y:.1}" stroke="{LIMITED}" stroke-width="1.5"/>"##);
        let _ = writeln!(svg, r##"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{LIMITED}"/>"##);
    }
    legend(&mut svg);
    svg + "</svg>\n"
}

fn legend(svg: &mut String) {
    for (x, colour, name) in
        [(LEFT, SENT, "sent"), (LEFT + 70.0, SUCCEEDED, "succeeded"), (LEFT + 170.0, LIMITED, "limited")]
    {
        let _ = writeln!(svg, r##"<rect x="{x}" y="34" width="12" height="10" fill="{colour}"/>"##);
        let _ = writeln!(svg, r##"<text x="{}" y="43">{name}</text>"##, x + 17.0);
    }
}

/// How much the picture shows in each direction.
struct Axes {
    seconds: f64,
    rate: f64,
}

impl Axes {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, rate: f64) -> f64 {
        HEIGHT - BOTTOM - rate / self.rate * (HEIGHT - TOP - BOTTOM)
    }

    /// A line along the rates of slots, from where the pen is.
    fn steps(&self, rates: impl Iterator<Item = f64>, seconds_a_slot: f64) -> String {
        let (mut path, mut end) = (String::new(), 0.0);
        for rate in rates {
            end += seconds_a_slot;
            let _ = write!(path, "V{:.1}H{:.1}", self.y(rate), self.x(end));
        }
        path
    }

    fn draw(&self, svg: &mut String) {
        let (right, zero) = (WIDTH - RIGHT, self.y(0.0));
        for (rate, label) in ticks(self.rate) {
            let y = self.y(rate);
            let _ = writeln!(svg, r##"<path d="M{LEFT},{y:.1}H{right}" stroke="#ddd"/>"##);
            let _ = writeln!(svg, r##"<text x="{}" y="{:.1}" text-anchor="end">{label}</text>"##, LEFT - 6.0, y + 4.0);
        }
        for (seconds, label) in ticks(self.seconds) {
            let (x, end) = (self.x(seconds), zero + 4.0);
            let _ = writeln!(svg, r##"<path d="M{x:.1},{zero}V{end}" stroke="#333"/>"##);
            let _ = writeln!(svg, r##"<text x="{x:.1}" y="{}" text-anchor="middle">{label}</text>"##, zero + 18.0);
        }
        let _ = writeln!(svg, r##"<path d="M{LEFT},{TOP}V{zero}H{right}" fill="none" stroke="#333"/>"##);
        let middle = (LEFT + right) / 2.0;
        let _ = writeln!(svg, r##"<text x="{middle}" y="{}" text-anchor="middle">seconds</text>"##, HEIGHT - 8.0);
        let middle = (TOP + zero) / 2.0;
        let _ = writeln!(
            svg,
            r##"<text transform="translate(16,{middle}) rotate(-90)" text-anchor="middle">requests a second</text>"##
        );
    }
}

/// Round numbers from zero to `end`, at most eleven.
fn ticks(end: f64) -> Vec<(f64, String)> {
    let magnitude = 10_f64.powf((end / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|of| of * magnitude).into_iter().find(|step| end / step <= 5.0);
    let step = step.unwrap_or(end);
    let decimals = if step < 0.1 { 2 } else { usize::from(step < 1.0) };
    let values = (0..=10_u8).map(|i| f64::from(i) * step).take_while(|value| *value <= end * 1.001);
    values.map(|value| (value, format!("{value:.decimals$}"))).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

// They can be told apart by whoever sees no red or green, too.
const SENT: &str = "#c9d3e0";
const SUCCEEDED: &str = "#1f6fb4";
const LIMITED: &str = "#d03030";

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 48.0;
