package forwarder

// The reasons of refusals by the forwarder itself. All others are Sallyport's.
const (
	peerNotAdmitted    = "peer_not_admitted"    // the user or address of a connection
	tooManyConnections = "too_many_connections" // Config.MaxConnections is reached
	tokenUnavailable   = "token_unavailable"    // the source has no token
	proxyUnreachable   = "proxy_unreachable"    // no proxy responds
	requestInvalid     = "request_invalid"      // as Sallyport's
	targetInvalid      = "target_invalid"       // as Sallyport's
)
