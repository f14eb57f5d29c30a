package server

import "time"

// earliest is the earlier of two times; orElse is in the place of a zero second one.
func earliest(a, b, orElse time.Time) time.Time {
	if b.IsZero() {
		b = orElse
	}
	if b.Before(a) {
		return b
	}
	return a
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// unixSeconds is a time as Prometheus has it; 0 for the zero time.
func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func labels[T ~string](values []T) []string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = string(v)
	}
	return list
}
