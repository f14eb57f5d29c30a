package check

// listKind judges an argument of a function of the library: the whole value, or, if a rule
// makes the list member by member, one member.
type listKind struct {
	name   string
	whole  func(u *Unit, v found) []Finding
	member func(u *Unit, v found) []Finding
}

// listKinds are the operands of the library's functions, by function and position.
var listKinds = map[string]map[int]listKind{
	"host_in":        {1: {"patterns", patternList, patternEntry}},
	"target_in":      {1: {"entries", targetList, targetMember}},
	"port_in":        {1: {"ports", portList, portEntry}},
	"within":         {0: {"windows", windowList, window}},
	"before":         {0: {"time", timeText, timeText}},
	"since":          {0: {"time", timeText, timeText}},
	"active":         {0: {"exception", activeException, nil}},
	"exceptions_for": {0: {"exceptions", exceptionList, wholeException}},
}
