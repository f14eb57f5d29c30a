// Command alerts evaluates alerting rules on scrapes of /metrics, with the engine of
// Prometheus, at times that the caller chooses. It is for tests: Prometheus stays in
// the module graph of the tools, outside the product's.
//
// It reads a [question] as JSON from standard input and writes an [answer] for each
// alert to standard output.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"os"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// scrapeInterval is both the interval of scrapes and that of evaluations.
const scrapeInterval = time.Minute

// question has the rules and what was scraped. Each scrape is repeated every minute
// until the next, and the last until the end.
type question struct {
	Rules   string   `json:"rules"`
	Scrapes []scrape `json:"scrapes"`
	// Begin and End bound the evaluations, in seconds since 1970.
	Begin int64 `json:"begin"`
	End   int64 `json:"end"`
}

// scrape is the body of /metrics of an instance from a time on. An empty body is a
// scrape that failed.
type scrape struct {
	Instance string `json:"instance"`
	At       int64  `json:"at"`
	Body     string `json:"body"`
}

// answer is the state of an alert at the end.
type answer struct {
	// State is "inactive", "pending" or "firing".
	State string `json:"state"`
	// Absent lists the metrics of the expression that no scrape has.
	Absent []string `json:"absent,omitempty"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "alerts:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	var q question
	if err := json.NewDecoder(in).Decode(&q); err != nil {
		return fmt.Errorf("read the question: %w", err)
	}
	language := parser.NewParser(parser.Options{})
	groups, errs := rulefmt.Parse([]byte(q.Rules), false, model.LegacyValidation, language, slog.New(slog.DiscardHandler))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("read the rules: %w", err)
	}
	db, err := load(q)
	if err != nil {
		return err
	}
	answers := make(map[string]answer)
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if answers[r.Alert], err = evaluate(db, language, r, q); err != nil {
				return fmt.Errorf("%s: %w", r.Alert, err)
			}
		}
	}
	return json.NewEncoder(out).Encode(answers)
}

// evaluate runs the rule every minute, as Prometheus does: an alert fires once its
// expression has had a result with the same labels for the time of the rule's "for".
func evaluate(db *database, p parser.Parser, r rulefmt.Rule, q question) (answer, error) {
	expr, err := p.ParseExpr(r.Expr)
	if err != nil {
		return answer{}, err
	}
	a := answer{State: "inactive"}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if v, ok := n.(*parser.VectorSelector); ok && !db.names[v.Name] {
			a.Absent = append(a.Absent, v.Name)
		}
		return nil
	})
	engine := promql.NewEngine(promql.EngineOpts{Logger: slog.New(slog.DiscardHandler), MaxSamples: 1e7, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: p})
	active := make(map[uint64]time.Time)
	for at := time.Unix(q.Begin, 0); !at.After(time.Unix(q.End, 0)); at = at.Add(scrapeInterval) {
		query, err := engine.NewInstantQuery(context.Background(), db, nil, r.Expr, at)
		if err != nil {
			return a, err
		}
		result := query.Exec(context.Background())
		vector, err := result.Vector()
		if err != nil {
			return a, err
		}
		now := make(map[uint64]time.Time)
		a.State = "inactive"
		for _, s := range vector {
			key := s.Metric.Hash()
			since, known := active[key]
			if !known {
				since = at
			}
			now[key] = since
			if at.Sub(since) >= time.Duration(r.For) {
				a.State = "firing"
			} else if a.State == "inactive" {
				a.State = "pending"
			}
		}
		active = now
		query.Close()
	}
	return a, nil
}

// database has every series in memory.
type database struct {
	storage.MockQuerier
	series []*storage.SeriesEntry
	names  map[string]bool
}

func (db *database) Querier(int64, int64) (storage.Querier, error) { return db, nil }

func (db *database) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	set := &seriesSet{at: -1}
	for _, s := range db.series {
		if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.Labels().Get(m.Name)) }) {
			set.series = append(set.series, s)
		}
	}
	return set
}

type seriesSet struct {
	series []*storage.SeriesEntry
	at     int
}

func (s *seriesSet) Next() bool         { s.at++; return s.at < len(s.series) }
func (s *seriesSet) At() storage.Series { return s.series[s.at] }
func (s *seriesSet) Err() error         { return nil }

func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// load makes the series of all instances.
func load(q question) (*database, error) {
	db := &database{names: map[string]bool{"up": true}}
	by := make(map[string][]scrape)
	for _, s := range q.Scrapes {
		by[s.Instance] = append(by[s.Instance], s)
	}
	for _, instance := range slices.Sorted(maps.Keys(by)) {
		scrapes := by[instance]
		slices.SortFunc(scrapes, func(a, b scrape) int { return cmp.Compare(a.At, b.At) })
		series := make(map[string]*points)
		for i, s := range scrapes {
			end := q.End
			if i+1 < len(scrapes) {
				end = scrapes[i+1].At - 1
			}
			if err := db.add(series, instance, s, end); err != nil {
				return nil, fmt.Errorf("read the scrape of %s at %d: %w", instance, s.At, err)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(series)) {
			db.series = append(db.series, storage.NewListSeries(series[key].labels, series[key].samples))
		}
	}
	return db, nil
}

// points are the samples of a series.
type points struct {
	labels  labels.Labels
	samples samples
}

// add repeats one scrape until the end. What an earlier one had and this one does
// not is stale.
func (db *database) add(series map[string]*points, instance string, s scrape, end int64) error {
	values := map[string]float64{}
	up := 0.0
	note := func(l labels.Labels, v float64) {
		b := labels.NewBuilder(l).Set("job", "sallyport").Set("instance", instance)
		l = b.Labels()
		if series[l.String()] == nil {
			series[l.String()] = &points{labels: l}
		}
		values[l.String()] = v
		db.names[l.Get(model.MetricNameLabel)] = true
	}
	if s.Body != "" {
		up = 1
		p := textparse.NewPromParser([]byte(s.Body), labels.NewSymbolTable(), false)
		for {
			entry, err := p.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if entry != textparse.EntrySeries {
				continue
			}
			var l labels.Labels
			p.Labels(&l)
			_, _, v := p.Series()
			note(l, v)
		}
	}
	note(labels.FromStrings(model.MetricNameLabel, "up"), up)
	for at := s.At; at <= end; at += int64(scrapeInterval / time.Second) {
		for key, one := range series {
			v, present := values[key]
			if !present {
				if at > s.At {
					continue
				}
				v = math.Float64frombits(value.StaleNaN)
			}
			one.samples = append(one.samples, sample{at * 1000, v})
		}
	}
	return nil
}
