package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. In the file it is a whole number with a unit: 512B, 32KiB, 20MiB, 1GiB, or 1KB, 1MB, 1GB
// for powers of a thousand; a bare number is bytes.
type Size int64

// The units of [Size].
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
)

// ParseSize reads a size. Its error says what is wrong without quoting the text.
func ParseSize(text string) (Size, error) {
	digits := strings.TrimLeft(text, "0123456789")
	number, unit := text[:len(text)-len(digits)], digits
	if number == "" {
		return 0, errors.New("it must begin with a whole number")
	}
	var scale int64
	switch unit {
	case "", "B":
		scale = 1
	case "KB":
		scale = 1e3
	case "MB":
		scale = 1e6
	case "GB":
		scale = 1e9
	case "KiB":
		scale = int64(KiB)
	case "MiB":
		scale = int64(MiB)
	case "GiB":
		scale = int64(GiB)
	default:
		return 0, errors.New("the units are B, KB, MB, GB, KiB, MiB and GiB, right after a whole number")
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > math.MaxInt64/scale {
		return 0, errors.New("it is too large")
	}
	return Size(n * scale), nil
}

// String is the size in the largest binary unit that divides it.
func (s Size) String() string {
	switch {
	case s != 0 && s%GiB == 0:
		return strconv.FormatInt(int64(s/GiB), 10) + "GiB"
	case s != 0 && s%MiB == 0:
		return strconv.FormatInt(int64(s/MiB), 10) + "MiB"
	case s != 0 && s%KiB == 0:
		return strconv.FormatInt(int64(s/KiB), 10) + "KiB"
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}
