package main

import (
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/proxy"
)

// gateLimits are the configuration's limits in the gate's words.
func gateLimits(l config.Limits) proxy.Limits {
	return proxy.Limits{Step: proxy.Limit(l.Step), Repository: proxy.Limit(l.Repository), Total: proxy.Limit(l.Total)}
}
