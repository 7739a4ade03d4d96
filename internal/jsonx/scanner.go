package jsonx

const (
	scStart   uint8 = iota // nothing but white space so far
	scValue                // a value must follow
	scElem                 // after '[': a value or ']'
	scMember               // after '{': a key or '}'
	scKey                  // after ',' in an object
	scColon                // after a key
	scAfter                // after a value inside a container
	scString               // inside a string
	scEscape               // after a backslash
	scHex                  // inside \uXXXX, n digits to come
	scLiteral              // inside null, true or false
	scMinus                // number: after '-'
	scZero                 // number: after the leading 0
	scInt                  // number: in the integer part
	scPoint                // number: after '.'
	scFrac                 // number: in the fraction
	scExp                  // number: after 'e'
	scExpSign              // number: after the exponent's sign
	scExpInt               // number: in the exponent
	scDone                 // after the one value
	scBroken
)

// Scanner tells incrementally whether the bytes seen so far form exactly one
// complete JSON value: the arguments of a tool call, say, which arrive in
// fragments cut anywhere. The zero value is ready. Nesting is not limited; it
// costs one bit a level, and no allocation up to 64 levels. Scanner does not
// look at UTF-8.
type Scanner struct {
	state uint8
	inKey bool // the string being read is a key
	n     uint8
	lit   string // rest of the literal being read
	depth int
	bits  uint64   // kinds of the innermost containers, 1 for objects, innermost lowest
	outer []uint64 // the full words before bits
}

// Reset makes s ready for another value.
func (s *Scanner) Reset() {
	outer := s.outer[:0]
	if cap(outer) > 1024 {
		outer = nil
	}
	*s = Scanner{outer: outer}
}

// Complete tells whether what was written is one whole value with nothing but
// white space around it. A number without anything after it counts as
// complete, although more digits may follow.
func (s *Scanner) Complete() bool {
	switch s.state {
	case scDone:
		return true
	case scZero, scInt, scFrac, scExpInt:
		return s.depth == 0
	}
	return false
}

// Empty tells whether nothing but white space was written.
func (s *Scanner) Empty() bool { return s.state == scStart }

// Broken tells whether what was written can not become valid any more.
func (s *Scanner) Broken() bool { return s.state == scBroken }

func (s *Scanner) push(obj uint64) {
	if s.depth > 0 && s.depth&63 == 0 {
		s.outer = append(s.outer, s.bits)
		s.bits = 0
	}
	s.bits = s.bits<<1 | obj
	s.depth++
}

func (s *Scanner) pop() {
	s.depth--
	s.bits >>= 1
	if s.depth > 0 && s.depth&63 == 0 {
		last := len(s.outer) - 1
		s.bits = s.outer[last]
		s.outer = s.outer[:last]
	}
	s.ended()
}

// ended notes the end of a value.
func (s *Scanner) ended() {
	s.state = scAfter
	if s.depth == 0 {
		s.state = scDone
	}
}

// begin handles the first byte of a value.
func (s *Scanner) begin(c byte) {
	switch {
	case c == '"':
		s.state, s.inKey = scString, false
	case c == '{':
		s.push(1)
		s.state = scMember
	case c == '[':
		s.push(0)
		s.state = scElem
	case c == '-':
		s.state = scMinus
	case c == '0':
		s.state = scZero
	case c >= '1' && c <= '9':
		s.state = scInt
	case c == 'n':
		s.state, s.lit = scLiteral, "ull"
	case c == 't':
		s.state, s.lit = scLiteral, "rue"
	case c == 'f':
		s.state, s.lit = scLiteral, "alse"
	default:
		s.state = scBroken
	}
}

// Write takes the next bytes. It keeps nothing of p.
func (s *Scanner) Write(p []byte) {
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch s.state {
		case scString:
			i = scanPlain(p, i)
			if i == len(p) {
				return
			}
			switch p[i] {
			case '"':
				if s.inKey {
					s.state = scColon
				} else {
					s.ended()
				}
			case '\\':
				s.state = scEscape
			default:
				s.state = scBroken
			}
			continue
		case scEscape:
			switch {
			case escapeValue[c] != 0:
				s.state = scString
			case c == 'u':
				s.state, s.n = scHex, 4
			default:
				s.state = scBroken
			}
			continue
		case scHex:
			if hexValue[c] > 15 {
				s.state = scBroken
			} else if s.n--; s.n == 0 {
				s.state = scString
			}
			continue
		case scLiteral:
			if c != s.lit[0] {
				s.state = scBroken
			} else if s.lit = s.lit[1:]; s.lit == "" {
				s.ended()
			}
			continue
		case scMinus, scZero, scInt, scPoint, scFrac, scExp, scExpSign, scExpInt:
			if next := numberNext(s.state, c); next != scAfter {
				s.state = next
				continue
			}
			s.ended() // c comes after the number
		case scBroken:
			return
		}
		if class[c]&isSpace != 0 {
			continue
		}
		switch s.state {
		case scStart, scValue:
			s.begin(c)
		case scElem:
			if c == ']' {
				s.pop()
			} else {
				s.begin(c)
			}
		case scMember, scKey:
			switch {
			case c == '"':
				s.state, s.inKey = scString, true
			case c == '}' && s.state == scMember:
				s.pop()
			default:
				s.state = scBroken
			}
		case scColon:
			s.state = scBroken
			if c == ':' {
				s.state = scValue
			}
		case scAfter:
			obj := s.bits&1 != 0
			switch {
			case c == ',' && obj:
				s.state = scKey
			case c == ',':
				s.state = scValue
			case c == '}' && obj, c == ']' && !obj:
				s.pop()
			default:
				s.state = scBroken
			}
		default: // scDone
			s.state = scBroken
		}
	}
}

// numberNext returns the state after byte c in a number; scAfter if c does not
// belong to the number, which is complete.
func numberNext(state, c byte) uint8 {
	digit := class[c]&isDigit != 0
	exp := c|0x20 == 'e'
	switch state {
	case scMinus:
		switch {
		case c == '0':
			return scZero
		case digit:
			return scInt
		}
		return scBroken
	case scZero, scInt:
		switch {
		case digit && state == scInt:
			return scInt
		case c == '.':
			return scPoint
		case exp:
			return scExp
		case digit:
			return scBroken
		}
		return scAfter
	case scPoint, scFrac:
		switch {
		case digit:
			return scFrac
		case state == scPoint:
			return scBroken
		case exp:
			return scExp
		}
		return scAfter
	case scExp, scExpSign, scExpInt:
		switch {
		case digit:
			return scExpInt
		case state == scExp && (c == '+' || c == '-'):
			return scExpSign
		case state != scExpInt:
			return scBroken
		}
	}
	return scAfter
}
