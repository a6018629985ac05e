package api

import "errors"

// Code classifies an error for programs; people read its message.
type Code string

// Codes of errors.
const (
	CodeInvalid     Code = "invalid"     // the request makes no sense as it is
	CodeNotFound    Code = "not-found"   // what it names does not exist
	CodeConflict    Code = "conflict"    // something else holds what it asks for
	CodeExhausted   Code = "exhausted"   // no address is left
	CodeTimeout     Code = "timeout"     // the deadline passed; it says what it waited for
	CodeUnavailable Code = "unavailable" // no daemon answers
	CodeForbidden   Code = "forbidden"   // the caller may not
	CodeFailed      Code = "failed"      // anything else
)

// Error is an error as it crosses the socket: what went wrong, in one line,
// and what to do about it.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Fix is the next thing to do, often a command; "" if nothing is known.
	Fix string `json:"fix,omitempty"`
}

// Error is the message and the fix in one line.
func (e *Error) Error() string {
	if e.Fix == "" {
		return e.Message
	}
	return e.Message + ": " + e.Fix
}

// CodeOf returns the code of an error, CodeFailed for one without.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeFailed
}
