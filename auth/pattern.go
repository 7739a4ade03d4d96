package auth

// match reports whether a word is what a pattern describes: each star stands for any run of characters, the empty one
// included, and everything else for itself. Its time is bounded by the product of both lengths, whatever the pattern.
func match(pattern, word string) bool {
	p, w := 0, 0
	star, mark := -1, 0 // the last star, and the part of the word that it has not swallowed yet
	for w < len(word) {
		switch {
		// The star comes first: a star in the word must not use up one in the pattern.
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, w
			p++
		case p < len(pattern) && pattern[p] == word[w]:
			p++
			w++
		case star >= 0:
			mark++
			p, w = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
