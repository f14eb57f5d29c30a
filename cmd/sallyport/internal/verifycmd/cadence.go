package verifycmd

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

// addMaxSilence adds the flag that bounds the time between two checkpoints.
func addMaxSilence(c *cobra.Command) *time.Duration {
	return c.Flags().Duration("max-silence", audit.DefaultMaxSilence, "list times of more than this without a checkpoint")
}

// checkMaxSilence refuses a bound that would list everything.
func checkMaxSilence(d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("--max-silence: %s is not above 0: write 2h or 90m", d)
	}
	return nil
}

// cadence prints when no checkpoint was signed for long. That is not damage: the
// instances may have been switched off. now is zero for an export, whose end is not
// that of the log.
func (b *reportText) cadence(c audit.Cadence, now time.Time) {
	if c.Count > 0 {
		b.line("silent", "%d times no checkpoint was signed for more than %s:", c.Count, audit.FormatDuration(c.Bound))
		for i, s := range c.Silences {
			if i == shownFindings {
				b.line("", "and more")
				break
			}
			b.line("", "- %s", s)
		}
	}
	if silent := c.SilentSince(now); silent > 0 && !now.IsZero() {
		b.line("silent", "no instance has sealed for %s, by this machine's clock: the latest checkpoint was signed %s", audit.FormatDuration(silent), cli.FormatTimeOrNever(c.Latest))
	}
	if c.Backward > 0 {
		b.line("clock", "%d checkpoints were signed before the one before them, by up to %s: a signer's clock went back", c.Backward, audit.FormatDuration(c.MaxBackward))
	}
}
