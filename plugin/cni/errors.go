package cni

import (
	"errors"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/weft-net/weft/api"
)

// Codes of weft's own, from 100 on, as CNI has it.
const (
	errConflict uint = 100 // something else has what is asked for
	errDiffers  uint = 101 // CHECK: the kernel is not as ADD said
)

// explain turns the daemon's error into one of CNI: the code tells a runtime
// whether to try again.
func explain(err error) error {
	if err == nil {
		return nil
	}
	var known *types.Error
	if errors.As(err, &known) {
		return err
	}
	message, details := err.Error(), ""
	var e *api.Error
	if errors.As(err, &e) {
		message, details = e.Message, e.Fix
	}
	code := map[api.Code]uint{
		api.CodeInvalid: types.ErrInvalidNetworkConfig, api.CodeNotFound: types.ErrUnknownContainer, api.CodeConflict: errConflict,
		// What ends by itself: containers go, hosts come back.
		api.CodeExhausted: types.ErrTryAgainLater, api.CodeTimeout: types.ErrTryAgainLater, api.CodeUnavailable: types.ErrTryAgainLater,
		api.CodeForbidden: types.ErrIOFailure,
	}[api.CodeOf(err)]
	if code == 0 {
		code = types.ErrInternal
	}
	return types.NewError(code, message, details)
}
