import type { Progress } from "../api";
import { count, money } from "../format";
import { Facts } from "../parts/Facts";
import { Failures } from "./Failures";
import { progressText, shareOf } from "./progress";

export const ProgressView = ({ progress, running }: { progress: Progress; running: boolean }) => {
  const share = shareOf(progress, running);
  const text = progressText(progress, running);
  return (
    <section aria-labelledby="responses-progress" className="card">
      <h2 id="responses-progress">{titleOf(progress, running)}</h2>
      <div
        className="progress"
        role="progressbar"
        aria-label="Requests done"
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={share === null ? undefined : Math.floor(share * 100)}
        aria-valuetext={text}
      >
        <div style={{ width: `${(share ?? 0) * 100}%` }} />
      </div>
      <p>{text}</p>
      <Facts
        facts={[
          { name: "Cost so far", value: money(progress.cost) },
          progress.failed != null && { name: "Failed", value: count(progress.failed) },
          progress.in_flight != null && { name: "In flight", value: count(progress.in_flight) },
          progress.resent != null && { name: "Sent again", value: count(progress.resent) },
        ]}
      />
      <Failures failures={progress.failures} />
    </section>
  );
};

const titleOf = ({ is_current: isCurrent, try_number: attempt }: Progress, running: boolean): string => {
  if (running) return "Progress";
  const number = !isCurrent && attempt != null ? ` (attempt ${attempt})` : "";
  return `Progress of the last attempt${number}`;
};
