// Package pgembed runs a PostgreSQL of our own under a directory: found on
// this machine, initialised when the directory is new, reachable over a unix
// socket only, and gone when this process is gone.
//
// A directory that pgembed owns looks like this:
//
//	data/        the cluster (mode 0700, the server's user)
//	data.new/    a cluster while it is being initialised; renamed when complete
//	socket/      the unix socket (mode 0700, the server's user); or, where the
//	             path is too long for a socket, a symbolic link to its place
//	owner.lock   held by the process that called Start
//	server.lock  held by the PostgreSQL processes themselves: they inherit it
//
// # Who runs it
//
// PostgreSQL refuses to run as root. As an ordinary user the server runs as
// that user. As root it runs as the owner of an existing cluster, else as the
// user "postgres", else as "nobody". On Linux the server that root starts is
// given its directories as open descriptors, so that a directory that its user
// cannot reach by path (one under /root, or a 0700 temporary directory) serves
// as well as any.
//
// # Who may connect
//
// There is no TCP listener, and the socket's directory is mode 0700: only the
// server's user and root reach the socket, and both could read the cluster's
// files anyway. That is why local connections are trusted without a password,
// for every role.
//
// # How it ends
//
// On Linux the kernel sends the server a fast-shutdown signal when we die,
// SIGKILL included (prctl(2), PR_SET_PDEATHSIG). Elsewhere a killed process
// leaves its server behind, and the next Start on the directory ends it. In
// both cases the next Start waits until every process of the previous server
// has gone: they hold server.lock.
package pgembed
