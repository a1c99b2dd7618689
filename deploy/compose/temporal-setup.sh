#!/bin/sh
# Makes the namespace and the search attribute without which workers do not start; what is there stays.
set -eu
tries=0
until temporal operator cluster health; do
  tries=$((tries + 1))
  if [ "$tries" -gt 60 ]; then echo "Temporal does not answer at $TEMPORAL_ADDRESS" >&2; exit 1; fi
  sleep 1
done
temporal operator namespace describe --namespace default >/dev/null 2>&1 \
  || temporal operator namespace create --namespace default --retention 72h
tries=0
until temporal operator search-attribute list --namespace default | grep -q AgentSessionNeeds; do
  tries=$((tries + 1)) # a new namespace is seen by all of the server after some seconds
  if [ "$tries" -gt 30 ]; then echo "the search attribute AgentSessionNeeds cannot be registered" >&2; exit 1; fi
  temporal operator search-attribute create --namespace default --name AgentSessionNeeds --type Keyword || sleep 1
done
