package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The functions of this file read a single value into where it belongs, and leave the default there if it is wrong.

// boolean reads true or false.
func boolean(to *bool) func(value) {
	return func(v value) {
		text, ok := v.scalar("true or false")
		if !ok {
			return
		}
		switch text {
		case "true", "True", "TRUE":
			*to = true
		case "false", "False", "FALSE":
			*to = false
		default:
			v.problem("wants true or false, not %s", v.shown())
		}
	}
}

// integer reads a whole number within bounds.
func integer(to *int, least, most int) func(value) {
	want := fmt.Sprintf("a whole number from %d to %d", least, most)
	return func(v value) {
		text, ok := v.scalar(want)
		if !ok {
			return
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			v.problem("wants %s, not %s", want, v.shown())
			return
		}
		*to = n
	}
}

// share reads a part of a whole: 20% or 0.2.
func share(to *float64) func(value) {
	const want = "a share such as 20% or 0.2, from 0 to 1"
	return func(v value) {
		text, ok := v.scalar(want)
		if !ok {
			return
		}
		number, percent := strings.CutSuffix(text, "%")
		f, err := strconv.ParseFloat(number, 64)
		if percent {
			f /= 100
		}
		if err != nil || !(f >= 0 && f <= 1) {
			v.problem("wants %s, not %s", want, v.shown())
			return
		}
		*to = f
	}
}

// temperature reads a number that is not negative; null is none.
func temperature(to **float64) func(value) {
	return func(v value) {
		if v.isNull() {
			*to = nil
			return
		}
		text, ok := v.scalar("a number such as 0.2, or null")
		if !ok {
			return
		}
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f < 0 || math.IsInf(f, 0) || math.IsNaN(f) {
			v.problem("wants a number such as 0.2, not negative, or null, not %s", v.shown())
			return
		}
		*to = &f
	}
}

// oneOf reads one of several words.
func oneOf(to *string, words ...string) func(value) {
	want := "one of " + strings.Join(words, ", ")
	return func(v value) {
		text, ok := v.text(want)
		if !ok {
			return
		}
		if !slices.Contains(words, text) {
			v.problem("wants %s, not %s", want, v.shown())
			return
		}
		*to = text
	}
}

// span reads a duration that is longer than nothing.
func span(to *time.Duration) func(value) {
	return func(v value) {
		d, ok := v.duration()
		if ok && d == 0 {
			v.problem("must be longer than 0s: without a bound a stuck peer would hold its place for ever")
			return
		}
		if ok {
			*to = d
		}
	}
}

// spanOrZero reads a duration; 0s turns something off.
func spanOrZero(to *time.Duration) func(value) {
	return func(v value) {
		if d, ok := v.duration(); ok {
			*to = d
		}
	}
}

func (v value) duration() (time.Duration, bool) {
	const want = "a duration such as 30s, 5m or 1h30m"
	text, ok := v.scalar(want)
	if !ok {
		return 0, false
	}
	d, problem := parseDuration(text)
	if problem != "" {
		v.problem("wants %s, not %s%s", want, v.shown(), problem)
		return 0, false
	}
	return d, true
}

// parseDuration reads a duration; the problem is what to add to a message.
func parseDuration(text string) (d time.Duration, problem string) {
	d, err := time.ParseDuration(text)
	switch {
	case err == nil && d < 0:
		return 0, ": it must not be negative"
	case err == nil:
		return d, ""
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return 0, ": a number needs its unit (ms, s, m or h)"
	}
	return 0, " (the units are ms, s, m and h)"
}

// size reads a number of bytes within bounds.
func size(to *Size, least, most Size) func(value) {
	return func(v value) {
		const want = "a size such as 512KiB or 20MiB"
		text, ok := v.scalar(want)
		if !ok {
			return
		}
		n, problem := ParseSize(text)
		switch {
		case problem != nil:
			v.problem("wants %s, not %s: %v", want, v.shown(), problem)
		case n < least || n > most:
			v.problem("must be from %v to %v, not %s", least, most, v.shown())
		default:
			*to = n
		}
	}
}

// sentence reads text for people or models, of any length and language.
func sentence(to *string) func(value) {
	return func(v value) {
		text, ok := v.text("text")
		if !ok {
			return
		}
		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool {
			return unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r'
		}) {
			v.problem("holds a control character, or is not UTF-8")
			return
		}
		*to = text
	}
}

// word reads one line of printable text.
func word(to *string, most int) func(value) {
	return func(v value) {
		text, ok := v.text("text")
		if !ok {
			return
		}
		if problem := checkWord(text, most); problem != "" {
			v.problem("%s", problem)
			return
		}
		*to = text
	}
}

func checkWord(text string, most int) string {
	switch {
	case utf8.RuneCountInString(text) > most:
		return fmt.Sprintf("is longer than %d characters", most)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "holds a character that cannot be printed"
	case strings.TrimSpace(text) != text:
		return "begins or ends with a space"
	}
	return ""
}

// boundedSpan reads a duration within bounds.
func boundedSpan(to *time.Duration, least, most time.Duration) func(value) {
	return func(v value) {
		d, ok := v.duration()
		if ok && (d < least || d > most) {
			v.problem("must be from %v to %v, not %s", least, most, v.shown())
			return
		}
		if ok {
			*to = d
		}
	}
}
