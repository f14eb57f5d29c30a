package main

import "testing"

// TestProgress: what runs is known, a test that passed leaves nothing behind, and a
// package that ended does not run. The slowest tests are listed.
func TestProgress(t *testing.T) {
	p := progress{running: map[string]string{}, output: map[string][]string{}}
	for _, line := range []string{
		`{"Action":"start","Package":"a"}`, `{"Action":"start","Package":"b"}`,
		`{"Action":"run","Package":"b","Test":"TestX"}`, `{"Action":"output","Package":"b","Test":"TestX","Output":"x\n"}`,
	} {
		p.line(line)
	}
	if got := p.now(); got != "a, b (TestX)" {
		t.Errorf("running: %q", got)
	}
	p.line(`{"Action":"pass","Package":"b","Test":"TestX/sub","Elapsed":3}`)
	p.line(`{"Action":"pass","Package":"a","Test":"TestY","Elapsed":1}`)
	p.line(`{"Action":"pass","Package":"b","Test":"TestX","Elapsed":2}`)
	p.line(`{"Action":"pass","Package":"b","Elapsed":1.5}`)
	if p.now() != "a" || p.done != 1 || len(p.output) != 0 {
		t.Errorf("%+v", p)
	}
	if got := p.slowest(1); got != "    2.0s b TestX\n" {
		t.Errorf("the slowest test: %q", got)
	}
}
