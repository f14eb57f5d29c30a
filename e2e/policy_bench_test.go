package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/deploy"
)

// multiply makes n decisions of those that are there, each of another step, at
// another time of the last hours.
func (s *seeded) multiply(b testing.TB, n int) {
	b.Helper()
	s.exec(b, `CREATE TEMP TABLE base AS SELECT * FROM audit.events WHERE kind = 'decision';
		CREATE TEMP TABLE more AS SELECT base.*, n FROM base, generate_series(1, `+fmt.Sprint(n)+` / (SELECT count(*) FROM base)) n;
		UPDATE more SET writer = 'more', writer_sequence = nextval, time = time - n * interval '10 milliseconds', decision_id = gen_random_uuid()
			FROM (SELECT ctid AS c, row_number() OVER () AS nextval FROM more) x WHERE x.c = more.ctid;
		UPDATE more SET step_uuid = ('0b000000-0000-4000-8000-' || lpad(writer_sequence::text, 12, '0'))::uuid;
		ALTER TABLE more DROP COLUMN n;
		INSERT INTO audit.events SELECT * FROM more; DROP TABLE more; ANALYZE audit.events`)
}

// BenchmarkPolicyReplay replays a log by the example policy repository,
// once for each iteration, with the real program.
//
//	go test -run '^$' -bench PolicyReplay -benchtime 1x ./cmd/sallyport
func BenchmarkPolicyReplay(b *testing.B) {
	directory := b.TempDir()
	copyPolicyRepository(b, directory)
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("decisions=%d", n), func(b *testing.B) {
			s := newSeeded(b, directory)
			for i := range 400 {
				s.recordDecision([]string{"acme/payments", "acme/website", "acme/tools", fmt.Sprintf("acme/r-%d", i%50)}[i%4],
					[]string{"", "production", "staging"}[i%3], "main", fmt.Sprintf("%s:443", []string{"api.partner.example", "registry.packages.example", "fonts.design.example", fmt.Sprintf("h%d.example", i%40)}[i/4%4]))
			}
			s.multiply(b, n)
			for b.Loop() {
				cmd := exec.CommandContext(b.Context(), sallyport(b), "policy", "replay", directory, "--since", "7d", "--fail-on", "any", "--database-url-file", s.urlFile)
				out, err := cmd.CombinedOutput()
				if err != nil || !strings.Contains(string(out), " decisions would differ") {
					b.Fatalf("%v\n%s", err, out)
				}
				usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
				b.ReportMetric(float64(usage.Maxrss)/1024, "MiB")
				b.ReportMetric(cmd.ProcessState.UserTime().Seconds(), "cpu-s")
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
		})
	}
}

func copyPolicyRepository(t testing.TB, directory string) {
	t.Helper()
	files, err := fs.Sub(deploy.PolicyRepository, "policy-repository")
	if err == nil {
		err = os.CopyFS(directory, files)
	}
	if err != nil {
		t.Fatal(err)
	}
}
