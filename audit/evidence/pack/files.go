package pack

// Names of a pack's files.
const (
	ReportFile     = "report.html"
	FactsFile      = "facts.json"
	PopulationFile = "population.jsonl.gz"
	Spreadsheet    = "population.csv"
	EventsFile     = "events.jsonl"

	ReconciliationsFile = "reconciliations.jsonl"

	TablesFolder  = "tables/"
	SamplesFolder = "samples/"
	CurrentFolder = "current/"
)

// ConsistencyFile has proofs that the tree of the pack's checkpoint extends those of
// older checkpoints, and that trees of larger checkpoints from outside extend it. A
// reviewer with another checkpoint can check that it is of the same log.
const ConsistencyFile = "consistency.jsonl"

// MaxLine bounds a line: a record has an input of at most a megabyte.
const MaxLine = 16 << 20

// MaxFacts bounds the facts, when a pack is made and when it is checked. A table of
// the report has at most 50,000 rows.
const MaxFacts = 256 << 20

const MaxConsistency = 64 << 20

const MaxSampleDetail = 64 << 20

// MaxSample is the largest sample.
const MaxSample = 10_000
