// Package dispatch carries out the tasks of accepted deliveries: it sends each to its
// endpoint over HTTP until the endpoint accepts it or its time budget ends.
//
// A [Dispatcher] claims tasks of a [webhook.Store] and gives them to one [Sender] for each
// endpoint. Every instance runs one. The store holds the order, the leases and the results,
// so that instances share the work, and a task whose instance ends is claimed by another.
package dispatch

// maxPerEndpoint is how many tasks of one endpoint are sent at the same time.
const maxPerEndpoint = 8
