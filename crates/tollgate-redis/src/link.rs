//! The way to the servers: a connection that many calls share, to one server, to the master that Sentinels name, or to a Cluster.

use std::{fmt, sync::Once, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    TlsCertificates, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::{ClusterClient, TlsMode},
    cluster_async::ClusterConnection,
    io::tcp::TcpSettings,
};
use socket2::TcpKeepalive;

use crate::{
    Settings,
    error::RedisError,
    script::Script,
    url::{Login, Node, Servers},
};

/// A connection; clones are the same one.
#[derive(Clone)]
pub(crate) enum Link {
    /// To a server that holds all keys.
    Whole(MultiplexedConnection),
    /// To servers that hold some each.
    Cluster(ClusterConnection),
}

impl Link {
    /// Connects, within the time that a decision may take, or a second if that is longer: whoever answers later is of no use.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, RedisError> {
        let patience = settings.timeout.max(CONNECT_AT_LEAST);
        tokio::time::timeout(patience, connect(settings)).await.unwrap_or(Err(RedisError::TimedOut))
    }

    /// Calls a script by its hash, and by its text where that is not known.
    pub(crate) async fn call(
        &mut self,
        script: &Script,
        keys: &[&[u8]],
        arguments: &[&[u8]],
    ) -> Result<Value, RedisError> {
        let command = |name: &str, script: &str| {
            let mut command = redis::cmd(name);
            command.arg(script).arg(keys.len());
            keys.iter().chain(arguments).for_each(|argument| _ = command.arg(*argument));
            command
        };
        match self.send(&command("EVALSHA", &script.sha1)).await {
            Err(error) if error.code() == Some("NOSCRIPT") => Ok(self.send(&command("EVAL", &script.text)).await?),
            answer => Ok(answer?),
        }
    }

    async fn send(&mut self, command: &Cmd) -> Result<Value, redis::RedisError> {
        let answer = match self {
            Self::Whole(connection) => connection.req_packed_command(command).await?,
            Self::Cluster(connection) => connection.req_packed_command(command).await?,
        };
        answer.extract_error()
    }
}

const CONNECT_AT_LEAST: Duration = Duration::from_secs(1);
/// Sooner than what lies between forgets a connection that nobody uses.
const KEEPALIVE: Duration = Duration::from_secs(30);

async fn connect(settings: &Settings) -> Result<Link, RedisError> {
    let url = &settings.url;
    match &url.servers {
        Servers::Alone(node) => whole(settings, address(node, url.tls)).await,
        Servers::Unix(path) => whole(settings, ConnectionAddr::Unix(path.into())).await,
        Servers::Sentinel { sentinels, service, login } => {
            let master = master(settings, sentinels, service, login).await?;
            whole(settings, address(&master, url.tls)).await
        }
        Servers::Cluster(nodes) => cluster(settings, nodes).await,
    }
}

async fn whole(settings: &Settings, address: ConnectionAddr) -> Result<Link, RedisError> {
    let connection = connection(settings, address, &settings.url.login, settings.url.database).await?;
    Ok(Link::Whole(connection))
}

async fn connection(
    settings: &Settings,
    address: ConnectionAddr,
    login: &Login,
    database: u32,
) -> Result<MultiplexedConnection, RedisError> {
    let info = info(address)?.set_redis_settings(login_settings(login).set_db(database.into()));
    let client = match &settings.ca {
        Some(_) => Client::build_with_tls(info, certificates(settings))?,
        None => Client::open(info)?,
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(settings.timeout.max(CONNECT_AT_LEAST)))
        .set_response_timeout(Some(settings.timeout));
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

fn info(address: ConnectionAddr) -> Result<ConnectionInfo, RedisError> {
    if matches!(address, ConnectionAddr::TcpTls { .. }) {
        choose_cryptography();
    }
    Ok(address.into_connection_info()?.set_tcp_settings(tcp()))
}

fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    TcpSettings::default().set_nodelay(true).set_keepalive(keepalive)
}

fn login_settings(login: &Login) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default();
    if let Some(user) = &login.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &login.password {
        settings = settings.set_password(password);
    }
    settings
}

fn address(Node { host, port }: &Node, tls: bool) -> ConnectionAddr {
    match tls {
        true => ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host.clone(), *port),
    }
}

fn certificates(settings: &Settings) -> TlsCertificates {
    TlsCertificates { client_tls: None, root_cert: settings.ca.clone().map(String::into_bytes) }
}

/// Whoever has chosen an implementation for his process already is left with it.
fn choose_cryptography() {
    static CHOSEN: Once = Once::new();
    CHOSEN.call_once(|| _ = rustls::crypto::ring::default_provider().install_default());
}

/// The first Sentinel that knows a master names it; it must say itself that it is one, for just after a failover they can be wrong.
async fn master(settings: &Settings, sentinels: &[Node], service: &str, login: &Login) -> Result<Node, RedisError> {
    let mut why = RedisError::Disconnected("no Sentinel".to_owned());
    for sentinel in sentinels {
        let named = ask_sentinel(settings, sentinel, service, login);
        match tokio::time::timeout(settings.timeout.max(CONNECT_AT_LEAST) / 4, named).await {
            Ok(Ok(master)) => return Ok(master),
            Ok(Err(error)) => why = error,
            Err(_) => why = RedisError::Disconnected(format!("the Sentinel {sentinel} does not answer")),
        }
    }
    Err(why)
}

async fn ask_sentinel(settings: &Settings, sentinel: &Node, service: &str, login: &Login) -> Result<Node, RedisError> {
    let tls = settings.url.tls;
    let mut asked = connection(settings, address(sentinel, tls), login, 0).await?;
    let mut question = redis::cmd("SENTINEL");
    question.arg("get-master-addr-by-name").arg(service);
    let named: Option<(String, u16)> = question.query_async(&mut asked).await?;
    let Some((host, port)) = named else {
        return Err(RedisError::Disconnected(format!("the Sentinel {sentinel} knows no service {service:?}")));
    };
    let master = Node { host, port };
    let mut asked = connection(settings, address(&master, tls), &settings.url.login, 0).await?;
    let role: (String, Value, Value) = redis::cmd("ROLE").query_async(&mut asked).await?;
    match role.0.as_str() {
        "master" => Ok(master),
        role => Err(RedisError::Disconnected(format!("{master} is no master but a {role}"))),
    }
}

async fn cluster(settings: &Settings, nodes: &[Node]) -> Result<Link, RedisError> {
    let url = &settings.url;
    let infos = nodes.iter().map(|node| info(address(node, url.tls))).collect::<Result<Vec<_>, _>>()?;
    let mut builder = ClusterClient::builder(infos)
        .connection_timeout(settings.timeout.max(CONNECT_AT_LEAST))
        .response_timeout(settings.timeout)
        .tcp_settings(tcp())
        // Moved slots are followed; whoever cannot be asked is asked anew by the next decision.
        .retries(CLUSTER_RETRIES);
    if let Some(user) = &url.login.user {
        builder = builder.username(user);
    }
    if let Some(password) = &url.login.password {
        builder = builder.password(password);
    }
    if url.tls {
        builder = builder.tls(TlsMode::Secure);
    }
    if settings.ca.is_some() {
        builder = builder.certs(certificates(settings));
    }
    Ok(Link::Cluster(builder.build()?.get_async_connection().await?))
}

const CLUSTER_RETRIES: u32 = 3;

impl Link {
    /// Whether another connection may lead to where this one does not: to another master, or to the same one restarted.
    pub(crate) fn is_useless_after(&self, error: &RedisError) -> bool {
        match (self, error) {
            // It finds its way by itself.
            (Self::Cluster(_), _) => false,
            (Self::Whole(_), RedisError::TimedOut | RedisError::Disconnected(_)) => true,
            (Self::Whole(_), RedisError::Refused(why)) => {
                ["READONLY", "MASTERDOWN", "NOAUTH"].iter().any(|code| why.contains(code))
            }
            (Self::Whole(_), RedisError::Busy | RedisError::Odd(_)) => false,
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Link::Whole",
            Self::Cluster(_) => "Link::Cluster",
        })
    }
}
