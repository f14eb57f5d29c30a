package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Bouncer starts a PgBouncer in front of the server, with the mode of its pool and
// its defaults, for these users, and returns the directory of its socket, whose port
// is 6432. The test is skipped where the machine has no PgBouncer.
func (s *Server) Bouncer(t testing.TB, mode string, users ...string) (socketDirectory string) {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program = "/usr/sbin/pgbouncer"; !isFile(program) {
			t.Skip("no PgBouncer on this machine")
		}
	}
	directory, err := os.MkdirTemp("", "sallyport-bouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	info, err := os.Stat(s.SocketDirectory())
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	var list string
	for _, user := range users {
		list += fmt.Sprintf("%q \"\"\n", user)
	}
	configuration := fmt.Sprintf(`[databases]
* = host=%s port=5432
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = %s
auth_type = trust
auth_file = %s
pool_mode = %s
`, s.SocketDirectory(), directory, filepath.Join(directory, "users"), mode)
	for name, text := range map[string]string{"users": list, "pgbouncer.ini": configuration} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, filepath.Join(directory, "pgbouncer.ini"))
	if os.Geteuid() != int(owner.Uid) { // it refuses to run as root
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
		if err := os.Chown(directory, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	for _, above := range []string{filepath.Dir(s.SocketDirectory()), filepath.Dir(filepath.Dir(s.SocketDirectory()))} {
		info, err := os.Stat(above)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o001 == 0 { // to the socket, and not to the names beside it
			if err := os.Chmod(above, info.Mode().Perm()|0o011); err != nil {
				t.Fatal(err)
			}
		}
	}
	log := &tailOf{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	q := url.Values{"host": {directory}, "port": {"6432"}, "user": {users[0]}, "default_query_exec_mode": {"simple_protocol"}}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, "postgres:///postgres?"+q.Encode())
		if err == nil {
			_ = conn.Close(ctx)
			return directory
		}
		if ctx.Err() != nil {
			t.Fatalf("pgtest: PgBouncer does not answer: %v\n%s", err, log.text)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// tailOf keeps the end of what is written.
type tailOf struct{ text []byte }

func (o *tailOf) Write(p []byte) (int, error) {
	o.text = append(o.text, p...)
	o.text = o.text[max(0, len(o.text)-4096):]
	return len(p), nil
}
