import type { Sums } from "../api";
import { tokensOf } from "../figures";
import { compact, costOf, count, knownCost, NONE, percent, plural } from "../format";

export const Totals = ({ totals }: { totals: Sums }) => (
  <section aria-labelledby="responses-totals">
    <h2 id="responses-totals" className="hidden">
      Totals
    </h2>
    <dl className="cards">
      <Card name="Cost" value={costOf(totals)}>
        {knownCost(totals) != null && totals.unpriced > 0
          ? `and ${plural(totals.unpriced, "request")} of unknown cost`
          : plural(totals.task_instances, "task instance")}
      </Card>
      <Card name="Tokens" value={compact(tokensOf(totals))} exact={count(tokensOf(totals))}>
        {compact(totals.input_tokens)} in, {compact(totals.output_tokens)} out
      </Card>
      <Card name="Requests" value={compact(totals.requests)} exact={count(totals.requests)}>
        in {plural(totals.task_instances, "task instance")}
      </Card>
      <Card name="Cached" value={percent(totals.cached, totals.requests)}>
        {plural(totals.cached, "request")}
      </Card>
      <Card name="Failed" value={percent(totals.failed, totals.requests)}>
        {totals.requests > 0 ? plural(totals.failed, "request") : NONE}
      </Card>
    </dl>
  </section>
);

type CardProps = { name: string; value: string; exact?: string; children: React.ReactNode };

const Card = ({ name, value, exact, children }: CardProps) => (
  <div className="card">
    <dt>{name}</dt>
    <dd className="figure" title={exact}>
      {value}
    </dd>
    <dd className="note">{children}</dd>
  </div>
);
