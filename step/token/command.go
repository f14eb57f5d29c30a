package token

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Defaults and bounds of commands.
const (
	defaultTimeout = 30 * time.Second
	maxStderr      = 8 << 10
	maxShownStderr = 400             // bytes of standard error in an error
	minInterval    = 5 * time.Second // between two starts of a command that failed
	unknownAge     = 5 * time.Minute // after which a token without an expiry is renewed
	maxMargin      = time.Minute     // before the expiry
)

// CommandConfig describes a command that prints a token.
type CommandConfig struct {
	// Args are the program and its arguments. No shell interprets them.
	Args []string
	// Timeout bounds one run; 0: 30 s.
	Timeout time.Duration
	// Stderr receives what a run wrote to its standard error, at most 8 KiB, after the
	// run's end. The token is replaced in it. nil: discarded, but a failed run's is in the
	// error.
	Stderr io.Writer
	// Environment is the command's environment; nil: this process's.
	Environment []string
}

// Command returns a source that runs a command for a token: at the first call of Token,
// and again before the token expires (a minute before, or a fifth of the remaining
// lifetime if that is less). A valid token is returned while the next run is in progress.
// One run is in progress at a time. Command does not run the command.
func Command(c CommandConfig) (Source, error) {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return nil, errors.New("the token command is empty: name a program that prints the token")
	}
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	return &command{config: c, now: time.Now}, nil
}

type command struct {
	config CommandConfig
	now    func() time.Time

	mu      sync.Mutex
	token   Token
	renewAt time.Time // from this time on the command is run again
	failed  time.Time // the end of the latest run, if it failed
	err     error     // of the latest run
	running *run      // nil: none
}

// run is one run of the command. done is closed after its result is stored.
type run struct {
	done chan struct{}
}

func (c *command) Token(ctx context.Context) (Token, error) {
	c.mu.Lock()
	now := c.now()
	if !c.token.IsZero() && now.Before(c.renewAt) {
		defer c.mu.Unlock()
		return c.token, nil
	}
	started := c.start(now)
	if !c.token.IsZero() && !c.token.Expired(now) {
		defer c.mu.Unlock()
		return c.token, nil
	}
	c.mu.Unlock()
	return c.wait(ctx, started)
}

func (c *command) Renew(ctx context.Context, refused Token) (Token, error) {
	c.mu.Lock()
	if !c.token.IsZero() && !c.token.Same(refused) {
		defer c.mu.Unlock()
		return c.token, nil
	}
	started := c.start(c.now())
	c.mu.Unlock()
	return c.wait(ctx, started)
}

// start returns the run in progress, or starts one; nil: the latest run failed a moment
// ago. c.mu is held.
func (c *command) start(now time.Time) *run {
	if c.running != nil {
		return c.running
	}
	if c.err != nil && now.Sub(c.failed) < minInterval {
		return nil
	}
	r := &run{done: make(chan struct{})}
	c.running = r
	go func() {
		// A run serves every waiting caller: it does not end with the first caller's context.
		ctx, cancel := context.WithTimeout(context.Background(), c.config.Timeout)
		defer cancel()
		t, err := c.execute(ctx)
		c.finish(r, t, err)
	}()
	return r
}

func (c *command) finish(r *run, t Token, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running, c.err = nil, err
	now := c.now()
	if err != nil {
		c.failed = now
	} else {
		c.token, c.renewAt = t, renewal(t, now)
	}
	close(r.done)
}

// renewal is when a token that was printed now is renewed.
func renewal(t Token, now time.Time) time.Time {
	if t.Expires.IsZero() {
		return now.Add(unknownAge)
	}
	return t.Expires.Add(-min(maxMargin, max(t.Expires.Sub(now), 0)/5))
}

// wait returns the result of a run.
func (c *command) wait(ctx context.Context, r *run) (Token, error) {
	if r != nil {
		select {
		case <-r.done:
		case <-ctx.Done():
			return Token{}, fmt.Errorf("wait for the token command: %w", context.Cause(ctx))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.token.IsZero() && (c.err == nil || !c.token.Expired(c.now())) {
		return c.token, nil
	}
	return Token{}, c.err
}

// execute runs the command once.
func (c *command) execute(ctx context.Context) (Token, error) {
	args := c.config.Args
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = c.config.Environment
	stdout, stderr := &bounded{limit: MaxBytes + 1024}, &bounded{limit: maxStderr}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = time.Second // for children that hold the pipes open
	ownGroup(cmd)
	err := cmd.Run()
	t, parseErr := Parse(stdout.String())
	said := withoutToken(stderr.String(), stdout.String())
	if c.config.Stderr != nil && said != "" {
		_, _ = io.WriteString(c.config.Stderr, said)
	}
	switch {
	case ctx.Err() != nil:
		return Token{}, c.failure(fmt.Errorf("not finished after %s", c.config.Timeout), said)
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return Token{}, c.failure(err, said)
	case stdout.over:
		return Token{}, c.failure(errTooLong, said)
	case parseErr != nil:
		return Token{}, c.failure(fmt.Errorf("its output: %w", parseErr), said)
	}
	return t, nil
}

func (c *command) failure(err error, stderr string) error {
	stderr = strings.TrimSpace(stderr)
	if len(stderr) > maxShownStderr {
		stderr = "…" + stderr[len(stderr)-maxShownStderr:]
	}
	if stderr == "" {
		return fmt.Errorf("token command: %w: its standard error is empty", err)
	}
	return fmt.Errorf("token command: %w: its standard error: %q", err, stderr)
}

// withoutToken replaces in text what the command printed as its token, or as a part of
// one: a failed command may print the token on both outputs.
func withoutToken(text, printed string) string {
	for secret := range strings.FieldsSeq(printed) {
		if len(secret) >= 8 {
			text = strings.ReplaceAll(text, secret, "[token]")
		}
	}
	return text
}

// bounded keeps the first bytes that are written to it and discards the rest.
type bounded struct {
	bytes.Buffer
	limit int
	over  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := b.limit - b.Len(); len(p) > room {
		b.over = true
		_, _ = b.Buffer.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return b.Buffer.Write(p)
}
