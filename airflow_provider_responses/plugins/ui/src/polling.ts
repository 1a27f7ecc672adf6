// When the tab is read again. No clock and no I/O.
import { ApiError } from "./api";

export const INTERVAL = 3000; // milliseconds
export const LONGEST = 60_000;

/** States of a task instance that another one follows. */
const UNFINISHED = new Set([
  "scheduled",
  "queued",
  "running",
  "restarting",
  "deferred",
  "up_for_retry",
  "up_for_reschedule",
  "awaiting_input",
]);

export const isUnfinished = (state: string | null | undefined): boolean => state != null && UNFINISHED.has(state);

/** Return whether a later request may succeed. */
export const isTemporary = (error: unknown): boolean =>
  error instanceof ApiError && (error.status === null || error.status >= 500 || error.status === 429);

/**
 * Return the milliseconds until the next request, null for none.
 *
 * @param state of the task instance, as far as it is known.
 * @param failures requests in a row that failed.
 */
export const delayOf = (args: {
  visible: boolean;
  state: string | null | undefined;
  error: unknown;
  failures: number;
}): number | null => {
  if (!args.visible || !isUnfinished(args.state)) return null;
  if (args.error && !isTemporary(args.error)) return null;
  return Math.min(INTERVAL * 2 ** args.failures, LONGEST);
};
