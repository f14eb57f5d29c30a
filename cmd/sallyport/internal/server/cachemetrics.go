package server

import "github.com/sallyport/sallyport/policy/rego"

// cacheMetrics adds the figures of the decision cache.
func (s *server) cacheMetrics() {
	m, status := s.metrics, s.policy.CacheStatus
	m.Counter("sallyport_decision_cache_hits_total", "Requests that were decided by a cached decision.", func() float64 { return float64(status().Hits) })
	m.Counter("sallyport_decision_cache_misses_total", "Requests that were evaluated because the cache had no decision.", func() float64 { return float64(status().Misses) })
	m.Counter("sallyport_decision_cache_evictions_total", "Decisions that the cache dropped for others.", func() float64 { return float64(status().Evictions) })
	m.Gauge("sallyport_decision_cache_bytes", "Memory of the cached decisions, about.", func() float64 { return float64(status().Bytes) })
	m.Gauge("sallyport_decision_cache_entries", "Cached decisions.", func() float64 { return float64(status().Entries) })
	causes := make([]string, len(rego.UncacheableCauses))
	for i, c := range rego.UncacheableCauses {
		causes[i] = string(c)
	}
	m.CounterBy("sallyport_decision_cache_uncacheable_total", "Evaluations whose decision was not kept, by cause.", "cause", causes, func(cause string) float64 {
		return float64(status().Uncacheable[rego.Uncacheable(cause)])
	})
}
