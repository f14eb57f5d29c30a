//go:build race

package main_test

// raceDetector: the program is built with it where the tests are.
const raceDetector = true
