#!/bin/sh
# Makes Temporal's two databases and brings their tables to this version; what is there stays.
set -eu
SQL_PASSWORD=$(cat /run/secrets/postgres)
export SQL_PASSWORD
tool() {
  name=$1
  shift
  temporal-sql-tool --plugin postgres12 --ep postgres -p 5432 -u temporal --db "$name" "$@"
}
schema=/etc/temporal/schema/postgresql/v12
for name in temporal temporal_visibility; do
  tool "$name" create
  tool "$name" setup-schema -v 0.0
done
tool temporal update-schema -d "$schema/temporal/versioned"
tool temporal_visibility update-schema -d "$schema/visibility/versioned"
