package auditcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

func newStream() *cobra.Command {
	c := &cobra.Command{
		Use:   "stream",
		Short: "Stream sealed events, in the order of the tree, as lines of JSON",
		Long: `Write each sealed event as a line of JSON, in the order of the Merkle tree, and
continue as more are sealed. It is a separate process that only reads: the proxy does
not wait for it.

  sallyport audit stream -c sallyport.yaml --out /var/log/sallyport/events.jsonl

  {"leaf":0,"record":{…}}                                                         an event, as it was sealed
  {"leaf":7,"writer":"…","writer_sequence":3,"hash":"…","gone":true}              retention removed it
  {"leaf":9,"writer":"…","writer_sequence":4,"hash":"…","record_base64":"…"}      it is not what was sealed

Every leaf is written at least once, in order. --position has the latest leaf whose
line is on disk: after a restart the command continues there, and may repeat its
latest lines. A consumer drops lines whose leaf it has already seen.

A file that was renamed is created again, also on SIGHUP. After a full
disk the command continues when it is started again. SIGINT and SIGTERM end it with
status 0.`,
		Args: cli.NoArguments,
	}
	from := auditdb.AddFlags(c)
	out := c.Flags().StringP("out", "o", "-", "`FILE` to add to; - is standard output")
	position := c.Flags().String("position", "", "`FILE` that keeps where it has come to (default: that of --out with .position behind its name)")
	once := c.Flags().Bool("once", false, "end when all that is sealed was written")
	interval := c.Flags().Duration("interval", time.Second, "how often to look for more")
	c.RunE = func(c *cobra.Command, _ []string) error {
		switch {
		case *position == "" && *out == "-":
			return cli.Invalid(fmt.Errorf("name the file that keeps where it has come to: --position FILE\nsee: %s --help", c.CommandPath()))
		case *position == "":
			*position = *out + ".position"
		}
		if *interval < 10*time.Millisecond {
			return cli.Invalid(fmt.Errorf("--interval %s: want at least 10ms", *interval))
		}
		f := &follow{once: *once, interval: *interval, messages: c.ErrOrStderr()}
		return cli.UntilBrokenPipe(func() error { return f.run(c, from, *out, *position) })
	}
	return c
}

// follow hands events on.
type follow struct {
	once     bool
	interval time.Duration
	messages io.Writer

	place   *followPlace
	out     followOutput
	hangups chan os.Signal
	dirty   int       // bytes since the place was kept
	kept    time.Time // when it was
}

// How much may have to be written again after a crash.
const (
	followBytes = 8 << 20
	followAge   = time.Second
)

// followOutput takes whole lines.
type followOutput interface {
	// write takes lines, all of them or none.
	write(lines []byte) error
	// sync returns when they are kept.
	sync() error
	// reopen takes a new file in the place of one that was moved away.
	reopen() error
	close() error
}

func (f *follow) run(c *cobra.Command, from auditdb.Flags, out, position string) (err error) {
	if f.place, err = openFollowPlace(position); err != nil {
		return err
	}
	defer f.place.close()
	if out == "-" {
		defer cli.SurviveBrokenPipes()()
		f.out = &followStream{c.OutOrStdout()}
	} else if f.out, err = openFollowFile(out); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.out.close()) }()
	url, done, err := from.Open(c.Context())
	if err != nil {
		return err
	}
	defer done()
	f.hangups = make(chan os.Signal, 1)
	signal.Notify(f.hangups, syscall.SIGHUP)
	defer signal.Stop(f.hangups)
	return f.persist(c.Context(), url)
}

// persist follows on a connection, and on another one when that is lost.
func (f *follow) persist(ctx context.Context, url string) error {
	connected, lost := false, false
	for pause := f.interval; ; pause = min(2*pause, 30*time.Second) {
		follower, err := auditreader.OpenFollower(ctx, url)
		if err == nil {
			if lost {
				fmt.Fprintln(f.messages, "the database is back")
			}
			connected, lost, pause = true, false, f.interval
			err = f.follow(ctx, follower)
			follower.Close()
		}
		switch {
		case ctx.Err() != nil || err == nil:
			return f.syncPosition() // an orderly end
		case !connected || !auditreader.IsLost(err):
			return errors.Join(err, f.syncPosition())
		case !lost:
			lost = true
			fmt.Fprintf(f.messages, "the database is unavailable, retrying: %v\n", err)
		}
		if !f.wait(ctx, pause) {
			return f.syncPosition()
		}
	}
}

// wait is false where the context has ended.
func (f *follow) wait(ctx context.Context, pause time.Duration) bool {
	select {
	case <-time.After(pause):
	case <-f.hangups:
		if err := f.out.reopen(); err != nil {
			fmt.Fprintf(f.messages, "SIGHUP: %v\n", err)
		}
	case <-ctx.Done():
		return false
	}
	return true
}

// follow writes what there is and what comes. It is nil where all was written
// and no more is wanted.
func (f *follow) follow(ctx context.Context, from *auditreader.Follower) error {
	if err := f.place.check(ctx, from); err != nil {
		return err
	}
	var lines []byte
	for {
		entries, err := from.Next(ctx, f.place.next)
		if err != nil {
			return err
		}
		lines = lines[:0]
		for i := range entries {
			lines = audit.AppendFollowed(lines, &entries[i])
		}
		if len(entries) > 0 {
			if err := f.writeEntries(lines, &entries[len(entries)-1]); err != nil {
				return err
			}
		}
		if len(entries) == 0 || f.dirty > followBytes || time.Since(f.kept) > followAge {
			if err := f.syncPosition(); err != nil {
				return err
			}
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case len(entries) > 0:
		case f.once:
			return nil
		case !f.wait(ctx, f.interval):
			return ctx.Err()
		}
	}
}

// writeEntries writes lines; the last line is of the entry last.
func (f *follow) writeEntries(lines []byte, last *audit.Entry) error {
	select {
	case <-f.hangups:
		if err := f.out.reopen(); err != nil {
			return err
		}
	default:
	}
	if err := f.out.write(lines); err != nil {
		return fmt.Errorf("%w; it continues at leaf %d after a restart", err, f.place.next)
	}
	f.place.next, f.place.hash = last.Index+1, last.Hash
	f.dirty += len(lines)
	return nil
}

// syncPosition makes the written lines durable, and then the position after them.
func (f *follow) syncPosition() error {
	f.kept = time.Now()
	if f.dirty == 0 {
		return nil
	}
	if err := f.out.sync(); err != nil {
		return err
	}
	if err := f.place.save(); err != nil {
		return err
	}
	f.dirty = 0
	return nil
}
