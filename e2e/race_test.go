//go:build race

package e2e

// raceDetector: the program is built with it where the tests are.
const raceDetector = true
