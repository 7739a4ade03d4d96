// Command bench measures what Dragoman costs: the CPU time its process spends
// on a request, beside that of a bare fasthttp pass-through and of nginx.
//
// Every party is a process of its own: the backend, each contestant, and this
// one, which is the load. The contestants take turns in rounds, so that what
// the machine does meanwhile meets all of them, and medians are compared. Every
// answer is checked, so that nobody wins by leaving something out.
//
// It needs Linux, which tells the CPU time of another process.
package main
