package server

// candidateMetrics are all 0 where there is none.
func (s *server) candidateMetrics() {
	m, status := s.metrics, s.policy.CandidateStatus
	if status().Configured {
		s.admin.AddDetail("policy_candidate", s.policy.CandidateDetail)
	}
	m.Counter("sallyport_candidate_decisions_total", "Decisions that the candidate policy evaluated too.", func() float64 { return float64(status().Evaluated) })
	m.CounterBy("sallyport_candidate_mismatches_total", "Decisions for which the candidate policy returned another verdict, or other routes of a webhook delivery.", "change", []string{"opens", "closes", "reroutes"}, func(change string) float64 {
		st := status()
		return float64(map[string]int64{"opens": st.Opens, "closes": st.Closes, "reroutes": st.Reroutes}[change])
	})
	m.Gauge("sallyport_candidate_repository_policies_rejected", "Repositories whose policy is rejected in the candidate.", func() float64 {
		return float64(status().Rejected)
	})
	m.Counter("sallyport_candidate_errors_total", "Decisions that the candidate policy could not evaluate.", func() float64 { return float64(status().Failed) })
	m.Counter("sallyport_candidate_dropped_total", "Decisions that the candidate policy did not evaluate because the queue was full.", func() float64 { return float64(status().Dropped) })
}
