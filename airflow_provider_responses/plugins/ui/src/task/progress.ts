import type { Progress, Task } from "../api";
import { count, duration, percent } from "../format";

/** States in which an attempt sends requests or waits for batches. */
const RUNNING = new Set(["running", "deferred"]);

/** Return whether the figures are those of an attempt that runs: they outlive retries and clears. */
export const isRunning = ({ progress, state }: Pick<Task, "progress" | "state">): boolean =>
  progress?.is_current === true && state !== null && RUNNING.has(state);

/** Return the finished share of the requests, from 0 to 1; null if it is unknown. */
export const shareOf = ({ done, total }: Progress, running: boolean): number | null => {
  if (done == null || total == null) return null;
  if (total <= 0) return running ? null : 1;
  return Math.min(Math.max(done / total, 0), 1);
};

/** Return one line: requests, speed and, while the attempt runs, the time that is left. */
export const progressText = (progress: Progress, running: boolean): string => {
  const { done, total, rate, seconds_left: left } = progress;
  const share = total === 0 && !running ? "100%" : percent(done, total);
  const texts = [
    total == null ? `${count(done)} requests done` : `${count(done)} of ${count(total)} requests (${share})`,
  ];
  if (rate != null && rate > 0) texts.push(`${rate >= 10 ? count(Math.round(rate)) : rate.toFixed(1)} requests/s`);
  if (running && left != null) texts.push(`about ${duration(left)} left`);
  return texts.join(", ");
};
