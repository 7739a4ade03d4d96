package translate

import "bytes"

// respShape is what one delta event has in common with the next of the same
// text: all but its number, its text and the noise that some servers add
// against eavesdroppers who count bytes. An event of the same shape needs no
// parsing: what is equal byte by byte to valid JSON but for a number and a
// string without escapes is valid JSON. It halves what a stream costs.
type respShape struct {
	ok    bool
	item  int // whose text it is
	part  int
	order [respSlots]int // the slots as they follow one another
	n     int            // their number
	fixed []byte         // what stands around them
	ends  [respSlots + 1]int

	// Of the event that matched last.
	seq    int64 // -1 if it has none
	text   []byte
	quoted []byte
}

// respSlot is where in an event a value that varies stands.
type respSlot struct{ from, to int }

// The values that vary.
const (
	slotSeq = iota
	slotText
	slotNoise
	respSlots
)

// learn takes the shape of an event that was parsed.
func (s *respShape) learn(data []byte, e *respFrame, item, part int) {
	s.ok, s.item, s.part, s.n, s.seq = false, item, part, 0, -1
	s.fixed = s.fixed[:0]
	at := 0
	for {
		next := -1
		for i, slot := range e.slots {
			if slot.to > 0 && slot.from >= at && (next < 0 || slot.from < e.slots[next].from) {
				next = i
			}
		}
		if next < 0 {
			break
		}
		if s.n == respSlots {
			return
		}
		slot := e.slots[next]
		for data[slot.from] == ' ' {
			slot.from++
		}
		if c := data[slot.from]; next == slotSeq && (c < '0' || c > '9') || next != slotSeq && c != '"' {
			return
		}
		s.fixed = append(s.fixed, data[at:slot.from]...)
		s.order[s.n], s.ends[s.n] = next, len(s.fixed)
		s.n++
		at = slot.to
	}
	s.fixed = append(s.fixed, data[at:]...)
	s.ends[s.n] = len(s.fixed)
	s.ok = true
}

// match reports whether data is of the shape, and takes its values.
func (s *respShape) match(data []byte) bool {
	if !s.ok {
		return false
	}
	i, from := 0, 0
	for k := 0; k <= s.n; k++ {
		fixed := s.fixed[from:s.ends[k]]
		if len(data)-i < len(fixed) || !bytes.Equal(data[i:i+len(fixed)], fixed) {
			return false
		}
		i += len(fixed)
		from = s.ends[k]
		if k == s.n {
			break
		}
		start := i
		if s.order[k] == slotSeq {
			n := int64(0)
			for i < len(data) && data[i]-'0' <= 9 {
				n = n*10 + int64(data[i]-'0')
				i++
			}
			// Without a digit, with a leading zero or with too many it is left
			// to the parser.
			if i == start || i-start > 15 || data[start] == '0' && i-start > 1 {
				return false
			}
			s.seq = n
			continue
		}
		if i >= len(data) || data[i] != '"' {
			return false
		}
		i++
		for i < len(data) && data[i] != '"' {
			if data[i] == '\\' || data[i] < ' ' {
				return false
			}
			i++
		}
		if i >= len(data) {
			return false
		}
		if s.order[k] == slotText {
			s.text, s.quoted = data[start+1:i], data[start:i+1]
		}
		i++
	}
	return i == len(data) && len(s.text) > 0
}
