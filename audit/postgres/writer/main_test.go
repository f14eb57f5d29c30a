package writer

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// logFor opens a log on a database, with a patience that a slow machine needs.
func logFor(t testing.TB, url string, change func(*Config)) *Log {
	t.Helper()
	config := Config{URL: url, Version: "test", Deadline: time.Minute, Log: audittest.Logger(t)}
	if change != nil {
		change(&config)
	}
	l, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-l.done: // the test has closed it, or meant it to stop
		default:
			audittest.Close(t, l)
		}
	})
	return l
}

// kill stops a log as the end of its process would: nothing is written any more,
// and no caller gets a result.
func kill(l *Log) {
	l.cancel()
	<-l.done
}
