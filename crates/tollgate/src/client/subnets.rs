//! Sets of addresses and subnets, asked for the longest prefix that holds an address.

use std::{cmp::Reverse, fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::{Prefix, PrefixSet};

/// Addresses and subnets, or everybody.
///
/// ```
/// use tollgate::client::Subnets;
///
/// let office: Subnets = ["10.10.0.0/24", "::1"].into_iter().map(str::parse).collect::<Result<_, _>>()?;
/// assert!(office.contains("10.10.0.77".parse()?));
/// assert!(!office.contains("10.11.0.1".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Subnets {
    all: bool,
    v4: Nets<Ipv4Net>,
    v6: Nets<Ipv6Net>,
}

impl Subnets {
    /// Every address there is.
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Adds everything of `other`.
    pub fn add(&mut self, other: Subnet) {
        match other {
            Subnet::All => self.all = true,
            Subnet::Net(IpNet::V4(net)) => self.v4.add(net),
            Subnet::Net(IpNet::V6(net)) => self.v6.add(net),
        }
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.longest(address).is_some()
    }

    /// The same of somebody who may have no address: only everybody holds him.
    pub(crate) fn longest_of(&self, address: Option<IpAddr>) -> Option<Subnet> {
        address.map_or(self.all.then_some(Subnet::All), |address| self.longest(address))
    }

    /// The entry with the longest prefix that holds an address.
    pub fn longest(&self, address: IpAddr) -> Option<Subnet> {
        let net = match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.longest(v4.into()).map(IpNet::V4),
            IpAddr::V6(v6) => self.v6.longest(v6.into()).map(IpNet::V6),
        };
        net.map(Subnet::Net).or(self.all.then_some(Subnet::All))
    }
}

impl fmt::Display for Subnets {
    /// The first few of its entries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        let nets = self.v4.all.iter().map(IpNet::V4).chain(self.v6.all.iter().map(IpNet::V6));
        let entries = self.all.then_some(Subnet::All).into_iter().chain(nets.map(Subnet::Net));
        for (i, entry) in entries.enumerate() {
            match i {
                0 => write!(f, "{entry}")?,
                SHOWN => {
                    return write!(
                        f,
                        " and {} more",
                        self.v4.all.len() + self.v6.all.len() + usize::from(self.all) - SHOWN
                    );
                }
                _ => write!(f, ", {entry}")?,
            }
        }
        Ok(())
    }
}

impl PartialEq for Subnets {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
            && self.v4.all.iter().eq(other.v4.all.iter())
            && self.v6.all.iter().eq(other.v6.all.iter())
    }
}

impl Eq for Subnets {}

/// Subnets of one family. Mostly they are few, and then it takes less to compare all of them than to walk down the tree.
#[derive(Clone, Debug, Default)]
struct Nets<P: Prefix> {
    all: PrefixSet<P>,
    /// All of them, the longest prefix first, or none if they are more than [`FEW`].
    few: Vec<P>,
}

/// How many subnets are compared one by one.
const FEW: usize = 8;

impl<P: Prefix + Copy> Nets<P> {
    fn add(&mut self, net: P) {
        if !self.all.insert(net) {
            return;
        }
        match self.all.len() <= FEW {
            true => {
                self.few.push(net);
                self.few.sort_by_key(|net| Reverse(net.prefix_len()));
            }
            false => self.few.clear(),
        }
    }

    fn longest(&self, address: P) -> Option<P> {
        match self.all.len() <= FEW {
            true => self.few.iter().find(|net| net.contains(&address)).copied(),
            false => self.all.get_lpm(&address),
        }
    }
}

impl FromIterator<Subnet> for Subnets {
    fn from_iter<I: IntoIterator<Item = Subnet>>(subnets: I) -> Self {
        subnets.into_iter().fold(Self::default(), |mut set, subnet| {
            set.add(subnet);
            set
        })
    }
}

/// One address, one subnet, or everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subnet {
    /// `all`
    All,
    /// `10.10.0.0/24`, `::1`
    Net(IpNet),
}

impl FromStr for Subnet {
    type Err = SubnetError;

    /// Reads `10.10.0.0/24`, `10.10.0.7`, `2001:db8::/32`, `::1` or `all`. Bits beyond the prefix are dropped.
    fn from_str(text: &str) -> Result<Self, SubnetError> {
        if text == "all" {
            return Ok(Self::All);
        }
        let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let net = net.ok_or_else(|| SubnetError { text: text.to_owned() })?;
        Ok(Self::Net(canonical(net.trunc())))
    }
}

/// IPv4-mapped subnets are IPv4 subnets, as the addresses in them are.
fn canonical(net: IpNet) -> IpNet {
    match (net, net.addr().to_canonical()) {
        (IpNet::V6(v6), IpAddr::V4(v4)) if v6.prefix_len() >= 96 => {
            Ipv4Net::new(v4, v6.prefix_len() - 96).map_or(net, IpNet::V4)
        }
        _ => net,
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "{}", net.addr()),
            Self::Net(net) => write!(f, "{net}"),
        }
    }
}

/// Why a text is no subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetError {
    text: String,
}

impl fmt::Display for SubnetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: expected an address (192.0.2.1, 2001:db8::1), a subnet (192.0.2.0/24) or all", self.text)
    }
}

impl std::error::Error for SubnetError {}
