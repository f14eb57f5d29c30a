package configcmd

import (
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/stepbinaries"
)

// checkStepBinaries checks that each build of sallyport-step is there with its digest. What
// is missing is a warning: the server starts without it, and offers the others.
func checkStepBinaries(r *checkReport, cfg *config.Config) {
	if cfg.StepBinaries == "" {
		return
	}
	problems := stepbinaries.New(cfg.StepBinaries).Check()
	for _, err := range problems {
		r.warn("step_binaries", err.Error())
	}
	if len(problems) == 0 {
		r.add("step_binaries", printable.Count(len(stepbinaries.Names), "build")+" with their SHA-256", nil)
	}
}
