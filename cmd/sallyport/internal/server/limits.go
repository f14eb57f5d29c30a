package server

import (
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/proxy"
)

// gateLimits are the configuration's limits as the gate takes them.
func gateLimits(l config.Limits) proxy.Limits {
	of := func(l config.Limit) proxy.Limit {
		return proxy.Limit{
			Tunnels: l.Tunnels, RequestsPerSecond: l.RequestsPerSecond, QueuedRequests: l.QueuedRequests,
			HeaderBytes: int64(l.PendingHeaderBytes), Dials: l.Dials,
		}
	}
	return proxy.Limits{Step: of(l.Step), Repository: of(l.Repository), Total: of(l.Total), QueueTimeout: l.QueueTimeout}
}

// lookups are the same as the resolver takes them.
func lookups(l config.Limits) fair.Config {
	of := func(l config.Limit) fair.Limit { return fair.Limit{Slots: l.Lookups, Waiting: l.QueuedRequests} }
	return fair.Config{Step: of(l.Step), Repository: of(l.Repository), Total: of(l.Total), Wait: l.QueueTimeout, WaitForSlots: true}
}
