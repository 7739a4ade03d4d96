//go:build !race

package ratelimit

const race = false
