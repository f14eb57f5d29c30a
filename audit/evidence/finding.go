package evidence

import "fmt"

// finding is damage that ends the check of one part.
type finding struct{ text string }

func (f finding) Error() string { return f.text }

func wrong(format string, a ...any) error { return finding{fmt.Sprintf(format, a...)} }
