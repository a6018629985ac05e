package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// envName of a flag: state-dir is WEFT_STATE_DIR.
func envName(flag string) string {
	return "WEFT_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment sets the flags that were not given from the environment.
func fromEnvironment(cmd *cobra.Command, env func(string) (string, bool)) error {
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value, ok := env(envName(f.Name))
		if !ok || f.Changed || err != nil || f.Name == "help" {
			return
		}
		if e := cmd.Flags().Set(f.Name, value); e != nil {
			err = usage("the environment's %s: %s", envName(f.Name), e)
		}
	})
	return err
}

// arguments wraps cobra's checks so that their errors are usage errors.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usage("%s (usage: %s)", err, cmd.UseLine())
		}
		return nil
	}
}
