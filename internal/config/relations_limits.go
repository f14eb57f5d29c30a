package config

// share is one limit of a step, a repository and all.
type share struct {
	name                    string
	step, repository, total *int
	whole                   bool // that one repository may take all of it is worth a warning
}

func (l *Limits) shares() []share {
	of := func(name string, whole bool, field func(*Limit) *int) share {
		return share{name, field(&l.Step), field(&l.Repository), field(&l.Total), whole}
	}
	return []share{
		of("tunnels", true, func(l *Limit) *int { return &l.Tunnels }),
		of("requests_per_second", false, func(l *Limit) *int { return &l.RequestsPerSecond }),
		of("max_queued_requests", true, func(l *Limit) *int { return &l.QueuedRequests }),
		of("max_pending_header_bytes", true, func(l *Limit) *int { return &l.PendingHeaderBytes }),
		of("max_concurrent_lookups", true, func(l *Limit) *int { return &l.Lookups }),
		of("max_concurrent_dials", true, func(l *Limit) *int { return &l.Dials }),
	}
}

// limits refuses a share that is above the one that contains it: it would never be reached, so that the
// author meant something else. A share that the file does not give follows the one that contains it.
func (d *decoder) limits(l *Limits) {
	for _, s := range l.shares() {
		total, repository, step := "limits.total."+s.name, "limits.repository."+s.name, "limits.step."+s.name
		d.share(repository, s.repository, total, *s.total)
		d.share(step, s.step, repository, *s.repository)
		d.share(step, s.step, total, *s.total)
		if s.whole && d.sound(repository) && *s.total > 1 && *s.repository == *s.total {
			d.warn(repository, "write less than "+total, "one repository can take all of %s and leave nothing to the others", total)
		}
	}
}

// share compares one share with the one that contains it. 0 is not a limit.
func (d *decoder) share(path string, value *int, outer string, limit int) {
	if limit == 0 || *value <= limit || d.failed[path] || d.failed[outer] {
		return
	}
	if !d.has(path) {
		*value = max(1, limit/2)
		return
	}
	origin := ""
	if !d.has(outer) {
		origin = ", by default"
	}
	d.fail(path, "lower it, or raise "+outer, "it is above %s (%d%s), and so never reached", outer, limit, origin)
}
