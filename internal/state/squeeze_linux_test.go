package state

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// squeezed runs fullDisk where no file can be larger than it says.
func squeezed(path string) {
	err := fullDisk(path, func(bytes uint64) error {
		return unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY})
	}, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
	}
}
