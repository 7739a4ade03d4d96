//go:build race

package ratelimit

const race = true
