package rego

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/sallyport/sallyport/policy"
)

// The first byte of a request to a worker is its kind.
const (
	requestEvaluate    = 'e' // evaluates an input by a repository's policy; the rest is binary, see evaluation
	requestEnvironment = 'n' // installs an environment
	requestDocuments   = 'd' // reads the documents of an environment
	requestInspect     = 'i' // checks a unit
	requestLint        = 'l' // collects the warnings about a unit
	requestTest        = 't' // runs the tests of a unit
	requestCompile     = 'c' // compiles a unit, and returns what it reads
	requestExplain     = 'x' // evaluates an input, with the outcome of each rule
	requestPrepare     = 'r' // compiles a unit
	requestFormat      = 'f' // formats a file
	requestDocument    = 'y' // converts a document to JSON
	requestPlace       = 'p' // evaluates an input, and returns the location at the deadline
)

// The first byte of a reply.
const (
	replyOK            = '='
	replyError         = '!' // the rest is a wireError as JSON
	replyNoEnvironment = 'N' // the environment has to be installed
	replyNoUnit        = 'U' // the unit has to be compiled
	replyInstalled     = 'I' // the environment is installed, or the unit compiled
)

// Bounds of replies in bytes. The worker returns an error where its reply
// would be longer.
const (
	maxEvaluationReply = 1 << 20
	maxReply           = 64 << 20
)

// maxEntries bounds the entries of all sets of a repository's policy in one reply.
const maxEntries = 1000

// maxEntriesText bounds the texts of those entries together, in bytes.
const maxEntriesText = 256 << 10

// evaluation is the request [requestEvaluate].
type evaluation struct {
	environment uint64
	repository  string
	deadline    time.Duration
	input       []byte // as it is recorded
}

func (e *evaluation) append(b []byte) []byte {
	b = append(b, requestEvaluate)
	b = binary.AppendUvarint(b, e.environment)
	b = appendText(b, e.repository)
	b = binary.AppendUvarint(b, uint64(e.deadline))
	return append(b, e.input...)
}

func readEvaluation(request []byte) (e evaluation, err error) {
	r := wireReader{rest: request}
	e.environment = r.uvarint()
	e.repository = r.text()
	e.deadline = time.Duration(r.uvarint())
	e.input = r.rest
	return e, r.err
}

// evaluationReply is the result of a repository's policy for one input.
type evaluationReply struct {
	results   results
	excepted  [][]byte // exceptions that the library found, as JSON
	readClock bool     // the evaluation read the time
}

const (
	flagAny     = 1 << iota // protocol: any
	flagAddress             // allow_ip_literal: true
	flagAlways              // enforce_in_report_mode: true
	flagECH                 // ech: true
	flagNoSNI               // no_sni: true
	flagExpires             // it has an end
)

func (a *evaluationReply) append(b []byte) []byte {
	for _, set := range repositorySets {
		b = binary.AppendUvarint(b, uint64(len(a.results[set])))
		for i := range a.results[set] {
			b = appendEntry(b, &a.results[set][i])
		}
	}
	b = binary.AppendUvarint(b, uint64(len(a.excepted)))
	for _, e := range a.excepted {
		b = appendText(b, string(e))
	}
	if a.readClock {
		return append(b, 1)
	}
	return append(b, 0)
}

// repositorySets are the sets of a repository's policy, in the order of a reply.
var repositorySets = [...]string{setAllow, setDeny}

func appendEntry(b []byte, e *entry) []byte {
	var flags byte
	set := func(is bool, flag byte) {
		if is {
			flags |= flag
		}
	}
	set(e.protocol == policy.ProtocolAny, flagAny)
	set(e.address, flagAddress)
	set(e.always, flagAlways)
	set(e.ech, flagECH)
	set(e.noSNI, flagNoSNI)
	set(!e.expires.IsZero(), flagExpires)
	b = append(b, flags)
	b = appendText(b, e.rule)
	b = appendText(b, e.message)
	for _, n := range [...]int64{int64(e.limits.Lifetime), int64(e.limits.Idle), e.limits.Sent, e.limits.Received, e.limits.StepSent, e.limits.StepReceived} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	if flags&flagExpires != 0 {
		b = binary.AppendVarint(b, e.expires.Unix())
		b = binary.AppendUvarint(b, uint64(e.expires.Nanosecond()))
	}
	return b
}

// readEvaluationReply decodes the reply to [requestEvaluate]. It accepts only what
// [evaluationReply.append] writes, within the bounds of a reply.
func readEvaluationReply(reply []byte) (*evaluationReply, error) {
	r := wireReader{rest: reply}
	a := &evaluationReply{results: results{}}
	left := maxEntries
	for _, set := range repositorySets {
		n := r.count(left)
		left -= n
		for range n {
			e := r.entry(set)
			if r.err != nil {
				return nil, r.err
			}
			a.results[set] = append(a.results[set], e)
		}
	}
	for range r.count(maxApplied) {
		a.excepted = append(a.excepted, []byte(r.text()))
	}
	switch r.byte() {
	case 0:
	case 1:
		a.readClock = true
	default:
		r.fail("a flag")
	}
	if len(r.rest) > 0 {
		r.fail("its end")
	}
	if r.err != nil {
		return nil, r.err
	}
	return a, nil
}

// entry reads an entry of a set, with the rules that [readEntry] has.
func (r *wireReader) entry(set string) (e entry) {
	flags := r.byte()
	if flags >= flagExpires<<1 || flags&flagAlways != 0 && set != setDeny {
		r.fail("the flags of an entry")
	}
	if flags&flagAny != 0 {
		e.protocol = policy.ProtocolAny
	}
	if flags&(flagECH|flagNoSNI) != 0 && set != setAllow {
		r.fail("the flags of an entry")
	}
	e.address, e.always = flags&flagAddress != 0, flags&flagAlways != 0
	e.ech, e.noSNI = flags&flagECH != 0, flags&flagNoSNI != 0
	e.rule, e.message = r.text(), r.text()
	if e.rule == "" || len(e.message) > maxMessageBytes {
		r.fail("an entry")
	}
	lifetime, idle := r.size(), r.size()
	e.limits = policy.Limits{Lifetime: time.Duration(lifetime), Idle: time.Duration(idle),
		Sent: r.size(), Received: r.size(), StepSent: r.size(), StepReceived: r.size()}
	if flags&flagExpires != 0 {
		seconds, nanoseconds := r.varint(), r.uvarint()
		if nanoseconds >= 1e9 || seconds < firstSecond || seconds > lastSecond {
			r.fail("a time")
			return e
		}
		e.expires = time.Unix(seconds, int64(nanoseconds)).UTC()
		if e.expires.IsZero() {
			r.fail("a time")
		}
	}
	return e
}

// The times that RFC 3339 can write.
var (
	firstSecond = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	lastSecond  = time.Date(10001, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
)

// wireError is an error that a worker returns.
type wireError struct {
	Text    string  `json:"text"`
	TooLong bool    `json:"too_long,omitempty"` // it is errDeadline
	Place   *Error  `json:"place,omitempty"`    // it is an Error
	List    []Error `json:"list,omitempty"`     // it is Errors
}

// toWire copies the parts of an error that callers inspect.
func toWire(err error) wireError {
	w := wireError{Text: shortenTo(err.Error(), maxErrorText), TooLong: errors.Is(err, errDeadline)}
	if e, ok := errors.AsType[Error](err); ok {
		w.Place = &e
	}
	if list, ok := errors.AsType[Errors](err); ok {
		w.List = list
	}
	return w
}

// maxErrorText bounds the text of an error of an evaluation: it may quote the input
// or what a policy made of it.
const maxErrorText = 4 << 10

// workerError is an error that a worker returned.
type workerError struct {
	text  string
	wraps []error
}

func (e *workerError) Error() string { return e.text }

func (e *workerError) Unwrap() []error { return e.wraps }

func readError(text []byte) error {
	var w wireError
	if err := readStrictly(text, &w); err != nil {
		return err
	}
	e := &workerError{text: w.Text}
	if w.TooLong {
		e.wraps = append(e.wraps, errDeadline)
	}
	if w.Place != nil {
		e.wraps = append(e.wraps, *w.Place)
	}
	if len(w.List) > 0 {
		e.wraps = append(e.wraps, Errors(w.List))
	}
	return e
}

// readStrictly decodes JSON into exactly the fields that v has.
func readStrictly(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", errWire, err)
	}
	if d.More() {
		return fmt.Errorf("%w: its end", errWire)
	}
	return nil
}

// wireFile is a file of a policy.
type wireFile struct {
	Path    string `json:"path"`
	Content []byte `json:"content"`
}

// environmentMessage is the request [requestEnvironment].
type environmentMessage struct {
	Key      uint64 `json:"key"`
	Names    bool   `json:"names"`
	Recorded bool   `json:"recorded"`
	// Repositories are the full names of those that there are; null: not known.
	Repositories []string      `json:"repositories"`
	Webhooks     *WebhookNames `json:"webhooks,omitempty"`
	Deadline     time.Duration `json:"deadline"`
	Library      []wireFile    `json:"library"`
	// Documents are the files below data/; Data is what they hold. An environment has
	// one of the two.
	Documents []wireFile      `json:"documents,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"`
	Without   []string        `json:"without,omitempty"` // of tests of this package
}

// unitRequest is every other request but [requestEvaluate].
type unitRequest struct {
	Environment uint64        `json:"environment"`
	Repository  string        `json:"repository"`
	Sources     []wireFile    `json:"sources,omitempty"`
	Input       []byte        `json:"input,omitempty"`
	Deadline    time.Duration `json:"deadline,omitempty"` // of the evaluation, or of all tests
}

// The replies.
type (
	documentsReply struct {
		Errors   Errors          `json:"errors,omitempty"`
		Warnings Errors          `json:"warnings,omitempty"`
		Ended    Errors          `json:"ended,omitempty"` // the exceptions that have ended
		Data     json.RawMessage `json:"data"`
	}
	inspectReply struct {
		Errors   Errors   `json:"errors,omitempty"`
		Warnings Errors   `json:"warnings,omitempty"`
		Reads    []string `json:"reads,omitempty"`
		All      bool     `json:"all,omitempty"`
	}
	testReply struct {
		Report         TestReport `json:"report"`
		Covered, Lines int
	}
	compileReply struct {
		Names []string `json:"names,omitempty"` // the names that its rules read
		Empty bool     `json:"empty,omitempty"` // it defines no set about requests
		// Deliveries is set if it defines a set about deliveries.
		Deliveries bool `json:"deliveries,omitempty"`
	}
	explainReply struct {
		Rules   []Explained `json:"rules,omitempty"`
		Results []byte      `json:"results"` // see evaluationReply.append
	}
	placeReply struct {
		File         string
		Line, Column int
	}
)

// dataOf decodes a JSON object into a Rego value.
func dataOf(text []byte) (ast.Object, error) {
	var value any
	if err := util.UnmarshalJSON(text, &value); err != nil {
		return nil, fmt.Errorf("%w: %w", errWire, err)
	}
	v, err := ast.InterfaceToValue(value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errWire, err)
	}
	object, ok := v.(ast.Object)
	if !ok {
		return nil, fmt.Errorf("%w: the data is not an object", errWire)
	}
	return object, nil
}

// bound is an error if a reply is too long.
func (a *evaluationReply) bound(name string) error {
	entries, text := 0, 0
	for _, list := range a.results {
		entries += len(list)
		for i := range list {
			text += len(list[i].rule) + len(list[i].message)
		}
	}
	if entries > maxEntries {
		return fmt.Errorf("%s: %d entries match one request, and at most %d are accepted", name, entries, maxEntries)
	}
	if text > maxEntriesText {
		return fmt.Errorf("%s: the ids and messages that match one request have %d bytes, and at most %d are accepted", name, text, maxEntriesText)
	}
	return nil
}

// fileReply is the reply to [requestFormat] and [requestDocument].
type fileReply struct {
	Content []byte `json:"content,omitempty"`
	Errors  Errors `json:"errors,omitempty"`
}
