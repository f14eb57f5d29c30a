package source

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// errOverLimit is the error of a process that was ended because it wrote more than
// its limit.
var errOverLimit = errors.New("it exceeds the limit")

func gitProgram() (string, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return "", errors.New("policy.git needs the git program, and it is not in PATH: install git, or use policy.directory")
	}
	return program, nil
}

// gitCall is one run of git.
type gitCall struct {
	arguments []string
	input     io.Reader
	limit     int64 // bytes of output
	remote    bool  // it speaks to the server
}

func (g *Git) git(ctx context.Context, limit int64, arguments ...string) ([]byte, error) {
	return g.run(ctx, gitCall{arguments: arguments, limit: limit})
}

func (g *Git) remote(ctx context.Context, arguments ...string) ([]byte, error) {
	return g.run(ctx, gitCall{arguments: arguments, limit: 1 << 20, remote: true})
}

// run runs git and returns its output. Whatever git starts is in a process group
// of its own, which is ended as a whole.
func (g *Git) run(ctx context.Context, c gitCall) ([]byte, error) {
	program, err := gitProgram()
	if err != nil {
		return nil, err
	}
	environment, secret, err := g.environment(c.remote)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, program, append([]string{"--git-dir=" + g.config.Directory, "--no-pager"}, c.arguments...)...)
	cmd.Env, cmd.Dir = environment, os.TempDir()
	cmd.Stdin = c.input
	stdout := &bounded{limit: c.limit, over: func() { cancel(errOverLimit) }}
	stderr := &bounded{limit: 16 << 10, over: func() {}}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = 5 * time.Second
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start git: %w", err)
	}
	confine(cmd.Process.Pid, g.limit)
	if c.remote {
		defer g.watchSize(func() { cancel(errOverLimit) })()
	}
	err = cmd.Wait()
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errOverLimit):
		return nil, errOverLimit
	case errors.Is(cause, context.DeadlineExceeded):
		return nil, fmt.Errorf("git %s took longer than %v", c.arguments[0], gitTimeout)
	case cause != nil:
		return nil, cause
	case err != nil:
		return nil, fmt.Errorf("git %s: %w%s", c.arguments[0], err, stderrSuffix(stderr.Bytes(), secret))
	}
	return stdout.Bytes(), nil
}

// environment is all that git learns. Nothing of this process' own goes in: no
// GIT_… that would redirect it, no agent, no proxy, no user's configuration. A
// secret is handed over in it rather than in the arguments, which every user of
// the machine can read.
func (g *Git) environment(remote bool) (environment []string, secret string, err error) {
	u, err := url.Parse(g.config.URL)
	if err != nil {
		return nil, "", errors.New("the URL cannot be parsed")
	}
	environment = []string{
		"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + g.config.Directory,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_SYSTEM=" + os.DevNull, "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=false", "SSH_ASKPASS=false",
		"GIT_ALLOW_PROTOCOL=" + u.Scheme, "GIT_PROTOCOL_FROM_USER=0",
		"GIT_OPTIONAL_LOCKS=0", "GIT_NO_REPLACE_OBJECTS=1", "GIT_NO_LAZY_FETCH=1",
	}
	settings := [][2]string{
		{"core.hooksPath", os.DevNull}, {"core.fsmonitor", "false"}, {"core.alternateRefsCommand", "false"},
		{"credential.helper", ""}, {"submodule.recurse", "false"}, {"fetch.recurseSubmodules", "false"},
		{"transfer.bundleURI", "false"}, {"fetch.bundleURI", ""},
		{"gc.auto", "0"}, {"maintenance.auto", "false"}, {"pack.threads", "1"}, {"core.bigFileThreshold", "8m"},
		{"http.followRedirects", "false"}, {"http.sslVerify", "true"}, {"http.proxy", ""},
		{"http.lowSpeedLimit", "100"}, {"http.lowSpeedTime", "30"},
	}
	settings = append(settings, fsckSettings(g.harmless)...)
	if remote {
		more, word, err := g.credentials(u)
		if err != nil {
			return nil, "", err
		}
		settings, secret = append(settings, more...), word
		if u.Scheme == "ssh" {
			environment = append(environment, "GIT_SSH_VARIANT=ssh", "GIT_SSH_COMMAND="+g.sshCommand())
		}
	}
	environment = append(environment, fmt.Sprintf("GIT_CONFIG_COUNT=%d", len(settings)))
	for i, s := range settings {
		environment = append(environment, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, s[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, s[1]))
	}
	return environment, secret, nil
}

// credentials are the settings that only a call to the server gets. The token is
// read again each time, for it may be renewed. It goes to this URL's host alone:
// redirects are not followed.
func (g *Git) credentials(u *url.URL) (settings [][2]string, secret string, err error) {
	if g.config.CAFile != "" {
		settings = append(settings, [2]string{"http.sslCAInfo", g.config.CAFile})
	}
	if g.config.Token == nil || u.Scheme == "ssh" {
		return settings, "", nil
	}
	token, err := g.config.Token()
	if err != nil {
		return nil, "", fmt.Errorf("policy.git.credentials_file: %w", err)
	}
	basic := base64.StdEncoding.EncodeToString([]byte(g.config.user() + ":" + token))
	return append(settings, [2]string{"http." + u.Scheme + "://" + u.Host + "/.extraHeader", "Authorization: Basic " + basic}), token, nil
}

// sshCommand is run by a shell. ssh prompts for nothing, uses neither a configuration
// nor an agent, and knows only the listed keys of the server.
func (g *Git) sshCommand() string {
	known := g.config.KnownHostsFile
	if known == "" {
		known = os.DevNull
	}
	words := []string{"ssh", "-F", os.DevNull, "-T",
		"-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=" + sshValue(known),
		"-o", "GlobalKnownHostsFile=" + os.DevNull, "-o", "UpdateHostKeys=no", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
		"-o", "ForwardAgent=no", "-o", "ClearAllForwardings=yes", "-o", "PermitLocalCommand=no", "-o", "ProxyCommand=none",
		"-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3", "-o", "PasswordAuthentication=no"}
	if key := g.config.SSHKeyFile; key != "" {
		words = append(words, "-i", key)
	}
	for i, w := range words {
		words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(words, " ")
}

// sshValue is a value of an option of ssh's own, which splits at spaces.
func sshValue(s string) string {
	if strings.ContainsAny(s, " \t") {
		return `"` + s + `"`
	}
	return s
}

// watchSize ends a fetch that fills the disk. A pack is written as it arrives, so
// its size is seen while it grows.
func (g *Git) watchSize(over func()) (end func()) {
	var ended atomic.Bool
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(250 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				if !ended.Load() && diskUse(g.config.Directory) > g.limit {
					over()
					return
				}
			}
		}
	}()
	return func() {
		ended.Store(true)
		close(stop)
		<-done
	}
}

func diskUse(directory string) (size int64) {
	_ = filepath.WalkDir(directory, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // it may go while it is checked
		}
		if info, err := e.Info(); err == nil && !e.IsDir() {
			size += info.Size()
		}
		return nil
	})
	return size
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	bytes.Buffer
	limit int64
	over  func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(b.Len())+int64(len(p)) > b.limit {
		b.over()
		_, _ = b.Buffer.Write(p[:max(0, b.limit-int64(b.Len()))])
		return len(p), nil // git must not fail with a broken pipe and report that instead
	}
	return b.Buffer.Write(p)
}

// stderrSuffix returns git's standard error as the end of an error: without the
// characters with which a server could forge a line of the log, and without the secret.
func stderrSuffix(text []byte, secret string) string {
	s := strings.ToValidUTF8(string(text), "?")
	if secret != "" {
		s = strings.ReplaceAll(s, secret, "[secret]")
	}
	var b strings.Builder
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			if b.Len() > 0 {
				b.WriteString("; ")
			}
			b.WriteString(line)
		}
	}
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, b.String())
	if clean == "" {
		return ""
	}
	return ": " + clean[:min(len(clean), 800)]
}
