// wall is the sample program of the Go step.
package main

import (
	"fmt"

	_ "left.example/wall"
)

func main() { fmt.Println("built with the wall") }
