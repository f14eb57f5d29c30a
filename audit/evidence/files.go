package evidence

// Names of a pack's files.
const (
	reportFile     = "report.html"
	factsFile      = "facts.json"
	populationFile = "population.jsonl.gz"
	spreadsheet    = "population.csv"
	eventsFile     = "events.jsonl"

	reconciliationsFile = "reconciliations.jsonl"

	tablesFolder  = "tables/"
	samplesFolder = "samples/"
	currentFolder = "current/"
)

// consistencyFile has proofs that the tree of the pack's checkpoint extends those of
// older checkpoints, and that trees of larger checkpoints from outside extend it. A
// reviewer with another checkpoint can check that it is of the same log.
const consistencyFile = "consistency.jsonl"

// maxLine bounds a line: a record has an input of at most a megabyte.
const maxLine = 16 << 20

// maxFacts bounds the facts, when a pack is made and when it is checked. A table of
// the report has at most 50,000 rows.
const maxFacts = 256 << 20

const maxConsistency = 64 << 20

const maxSampleDetail = 64 << 20

// maxSample is the largest sample.
const maxSample = 10_000
