package sealer

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
)

// Open makes a sealer. It connects to nothing yet: [Sealer.Run] does.
func Open(config Config) (*Sealer, error) {
	config.Log = cmp.Or(config.Log, slog.New(slog.DiscardHandler))
	config.Interval = cmp.Or(config.Interval, 5*time.Second)
	config.LostAfter = cmp.Or(config.LostAfter, 15*time.Second)
	config.PatienceWithOthers = cmp.Or(config.PatienceWithOthers, 20*time.Second)
	config.CompareInterval = cmp.Or(config.CompareInterval, time.Minute)
	config.HeartbeatInterval = cmp.Or(config.HeartbeatInterval, audit.HeartbeatInterval)
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Writer == nil {
		config.Writer = func() string { return "" }
	}
	config.Batch = cmp.Or(config.Batch, 20000)
	connect, err := database.ParseConfig(config.URL, "sallyport sealer")
	if err != nil {
		return nil, fmt.Errorf("seal the audit log: %w", err)
	}
	connect.RuntimeParams["application_name"] = "sallyport sealer"
	// Who stops in the middle holds the lock no longer than this.
	database.Set(&connect.Config, map[string]string{"idle_in_transaction_session_timeout": "5000"})
	s := &Sealer{config: config, connect: connect, log: config.Log, now: config.Now, writers: newWriters(), absent: make(map[string]time.Time), lost: make(map[string]int64), writersPerStep: defaultWritersPerStep}
	s.replication.Watch(&connect.Config)
	s.gatherNext, s.compareNewest, s.shares, s.readRegistrations = s.gather, s.comparePublished, shares, s.readPage
	for _, p := range config.Publishers {
		s.places = append(s.places, newPlace(p, s.log))
	}
	return s, nil
}

// Run seals until ctx ends. It returns when nothing of it runs any more, but
// what Close does.
func (s *Sealer) Run(ctx context.Context) {
	tick := time.NewTicker(s.config.Interval)
	defer tick.Stop()
	for {
		_ = s.Seal(ctx) // it is in the status
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// How often Close tries to acquire the lock of sealing, and the pause between.
const (
	closeAttempts = 20
	closePause    = 100 * time.Millisecond
)

// Close seals what is left, once Run has returned and the log is closed, waits
// until it is published and ends the connection. Where ctx ends first, what is
// left is sealed or published by the next process.
func (s *Sealer) Close(ctx context.Context) error {
	err := s.Seal(ctx)
	// A step that Run's end interrupted may hold the lock until the database notices
	// that its connection is closed; so may another instance for one of its steps.
	for again := 0; err == nil && !s.locked && again < closeAttempts && ctx.Err() == nil; again++ {
		select {
		case <-time.After(closePause):
			err = s.Seal(ctx)
		case <-ctx.Done():
		}
	}
	for _, p := range s.places {
		p.close(ctx)
	}
	if s.conn != nil {
		_ = s.conn.Close(context.WithoutCancel(ctx))
		s.conn = nil
	}
	return err
}

// Seal seals all that can be sealed now. It is called by one goroutine at a time.
func (s *Sealer) Seal(ctx context.Context) error {
	var err error
	s.passSteps = 0
	for more := true; more && err == nil; {
		more, err = s.step(ctx)
	}
	if err != nil && ctx.Err() == nil {
		s.behindAfterFailure(ctx)
	}
	if ctx.Err() == nil || err == nil {
		s.note(err)
	}
	return err
}
