//go:build !linux

package state

import (
	"fmt"
	"os"
)

// squeezed has no way to bound the size of files here.
func squeezed(string) { fmt.Fprintln(os.Stdout, "not here") }
