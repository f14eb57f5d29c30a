package writer

import "github.com/sallyport/sallyport/proxy"

// What the gate asks of a log.
var _ proxy.Recorder = (*Log)(nil)
