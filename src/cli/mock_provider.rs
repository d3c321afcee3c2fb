//! `odock-edge mock-provider`: the deterministic provider on a port of its own.

use pingora::server::Server;
use pingora::server::configuration::ServerConf;

use super::{FAILED, OK, tell};
use crate::config::LogFormat;
use crate::{mock, telemetry};

/// Arguments of `mock-provider`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  odock-edge mock-provider
  odock-edge mock-provider --listen 127.0.0.1:0 --latency-ms 200 --chunk-delay-ms 20
  curl -s localhost:9091/v1/chat/completions -H 'x-mock-status: 429' -d '{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}'
  curl -sN localhost:9091/v1/messages -d '{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"mock\":{\"fault\":\"reset-mid-body\"}}'

Every switch is also a request header (x-mock-latency-ms: 200), a query member, or a member of a `mock` object in the JSON body.")]
pub struct Args {
    #[command(flatten)]
    options: mock::Options,
}

/// Serves until the process is told to stop.
pub fn run(args: Args) -> i32 {
    let listen = args.options.listen;
    let provider = match mock::bind(args.options) {
        Ok(provider) => provider,
        Err(error) => {
            tell(&format!("odock-edge mock-provider: cannot listen on {listen}: {error}"));
            return FAILED;
        }
    };
    let _ = telemetry::log::init(LogFormat::Text, "info");
    log::info!("mock provider listening on http://{}", provider.address());
    // There is no request worth waiting for at shutdown.
    let conf = ServerConf { grace_period_seconds: Some(0), graceful_shutdown_timeout_seconds: Some(0), ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    server.add_service(provider);
    server.run(Default::default());
    OK
}
