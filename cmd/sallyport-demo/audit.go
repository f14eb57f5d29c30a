package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgembed"
	"github.com/sallyport/sallyport/internal/testenv"
)

// auditQuery is what the tour shows; README has it as a first query. The view
// leaves out the probes of the self-test that the server makes at its start.
const auditQuery = `SELECT coalesce(repository, '-') AS repository, coalesce(deployment, '-') AS deployment,
       host || ':' || port AS target, verdict, would_deny, reason, bytes_received IS NOT NULL AS closed
  FROM audit.decisions
 ORDER BY time, decision_id`

// row is one line of the tour's table.
type row struct {
	repository, deployment, target, verdict string
	wouldDeny                               bool
	reason                                  string
	closed                                  bool // the end is recorded too
}

// showAudit prints the decisions and compares them with what the tour did.
func showAudit(ctx context.Context, out io.Writer, srv *server, want []visit) error {
	rows, err := readAudit(ctx, srv, len(want))
	if err != nil {
		return fmt.Errorf("read the audit log: %w", err)
	}
	say(out, "\nThe audit log (select … from audit.decisions, as the auditor):\n")
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"repository", "deployment", "target", "verdict", "reason"})
	for _, r := range rows {
		verdict := r.verdict
		if r.wouldDeny {
			verdict += "*"
		}
		t.AppendRow(table.Row{r.repository, r.deployment, r.target, verdict, r.reason})
	}
	t.Render()
	say(out, "* allowed by report mode alone (would_deny).\nEach row also has the step, rule, revision, mode and bytes.")
	if len(rows) != len(want) {
		return fmt.Errorf("the log has %d decisions, want %d", len(rows), len(want))
	}
	for i, v := range want {
		verdict := "deny"
		if v.allow {
			verdict = "allow"
		}
		if r := rows[i]; r.verdict != verdict || r.reason != v.reason || r.wouldDeny != v.would {
			return fmt.Errorf("row %d has %s %s would_deny=%t, want %s %s would_deny=%t", i+1, r.verdict, r.reason, r.wouldDeny, verdict, v.reason, v.would)
		}
	}
	return nil
}

// readAudit reads the decisions, once those that were allowed have their ends
// beside them: a tunnel's end is written when it ends, a moment after curl has.
func readAudit(ctx context.Context, srv *server, n int) ([]row, error) {
	endpoint, err := pgembed.Locate(filepath.Join(srv.data, "postgresql"))
	if err != nil {
		return nil, err
	}
	pool, err := database.NewPool(ctx, endpoint.URL("sallyport", "sallyport_auditor"), "sallyport-demo", 1)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		result, err := pool.Query(ctx, auditQuery)
		if err != nil {
			return nil, err
		}
		var rows []row
		closed := true
		for result.Next() {
			var r row
			if err := result.Scan(&r.repository, &r.deployment, &r.target, &r.verdict, &r.wouldDeny, &r.reason, &r.closed); err != nil {
				return nil, err
			}
			closed = closed && (r.verdict != "allow" || r.closed)
			rows = append(rows, r)
		}
		if err := result.Err(); err != nil {
			return nil, err
		}
		if len(rows) >= n && closed {
			return rows, nil
		}
		select {
		case <-ctx.Done():
			return rows, nil
		case <-again.C:
		}
	}
}

// stay prints what to try, and waits for the operator's interrupt.
func stay(ctx context.Context, out io.Writer, env *testenv.Env, srv *server) error {
	token := env.Token(env.Payments, env.Production, "main")
	observed := env.Token(env.Website, nil, "main")
	say(out, `
The server runs until you press Ctrl-C. These are tokens for an hour, of a step of acme/payments that deploys
to Production and of a step of acme/website. Paste into another shell:

export HTTPS_PROXY=http://step:%s@%s
export https_proxy=$HTTPS_PROXY HTTP_PROXY=$HTTPS_PROXY http_proxy=$HTTPS_PROXY NO_PROXY=localhost,127.0.0.1
export CURL_CA_BUNDLE=%s

export WEBSITE=http://step:%s@%s

curl https://%s:%d/v1/payments                       # allowed
curl -v https://%s:%d/                             # denied: no_rule_matched
curl -v --proxy $WEBSITE https://%s:%d/          # denied: address_prohibited
curl --noproxy '*' $HTTPS_PROXY/step                                     # the step's requests

And the log:

%s audit psql --config %s --role auditor -c 'select * from audit.decisions'`,
		token, srv.proxy, env.CAFile, observed, srv.proxy, partnerHost, httpsPort, unlistedHost, httpsPort,
		testenv.PrivateHost, httpsPort, srv.cmd.Path, srv.config)
	select {
	case <-ctx.Done():
		say(out, "\nShutting down.")
		return nil
	case <-srv.ended:
		return fmt.Errorf("the server ended: %w\n%s", srv.err, lastLines(srv.logFile))
	}
}
