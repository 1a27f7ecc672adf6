import type { Progress } from "../api";
import { count, duration, percent } from "../format";

/** Return the finished share of the rows, from 0 to 1; null if the number of rows is unknown. */
export const shareOf = ({ done, total }: Progress): number | null =>
  done == null || total == null || total <= 0 ? null : Math.min(Math.max(done / total, 0), 1);

/** Return one line: rows, speed and the time that is left. */
export const progressText = (progress: Progress): string => {
  const { done, total, rate, seconds_left: left } = progress;
  const texts = [
    total == null
      ? `${count(done)} rows done`
      : `${count(done)} of ${count(total)} rows (${percent(done, total)})`,
  ];
  if (rate != null && rate > 0) texts.push(`${rate >= 10 ? count(Math.round(rate)) : rate.toFixed(1)} rows/s`);
  if (left != null) texts.push(`about ${duration(left)} left`);
  return texts.join(", ");
};
