"""
Lists of what may occur in SQL of a model, by the names of sqlglot's classes. No I/O.

Whatever is missing here is refused. Add only what reads nothing but its arguments, and needs no memory beyond them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NODES: Final = _words(
    # a statement
    "Select Union Except Intersect Subquery With CTE From Join Where Group Having Qualify Order Ordered Limit Fetch "
    "LimitOptions Offset Distinct Rollup Cube GroupingSets Table TableAlias Alias Column Identifier Star "
    # values
    "Literal Null Boolean Paren Tuple Interval Var DataType DataTypeParam "
    # operators
    "And Or Xor Not Neg EQ NEQ NullSafeEQ NullSafeNEQ GT GTE LT LTE Is Like ILike Glob Escape Between In Exists Any "
    "All Add Sub Mul Div IntDiv Mod DPipe BitwiseAnd BitwiseOr BitwiseXor BitwiseNot AtTimeZone SimilarTo "
    # functions with a grammar of their own
    "Case If Cast TryCast Window WindowSpec Filter WithinGroup IgnoreNulls RespectNulls "
    # paths of JSON
    "JSONPath JSONPathRoot JSONPathKey JSONPathSubscript"
)

# Parts that a node may have. A node that is not here may have any: they are nodes, and checked as such.
_QUERY: Final = "with_ order limit offset distinct"
PARTS: Final[Mapping[str, frozenset[str]]] = {
    "Select": _words(f"expressions from_ joins where group having qualify windows {_QUERY}"),
    "Union": _words(f"this expression {_QUERY}"),
    "Except": _words(f"this expression {_QUERY}"),
    "Intersect": _words(f"this expression {_QUERY}"),
    "Subquery": _words("this alias"),
    "With": _words("expressions recursive"),
    "CTE": _words("this alias materialized"),
    "From": _words("this"),
    "Join": _words("this on using side kind method"),
    "Table": _words("this db catalog alias"),
    "TableAlias": _words("this columns"),
    "Alias": _words("this alias"),
    "Column": _words("this table"),
    "Identifier": _words("this quoted"),
    "Star": _words(""),
    "Group": _words("expressions rollup cube grouping_sets all"),
    "Order": _words("this expressions"),
    "Ordered": _words("this desc nulls_first"),
    "Limit": _words("expression"),
    "Fetch": _words("direction count limit_options"),
    "LimitOptions": _words("rows"),
    "Offset": _words("expression"),
    "Distinct": _words("expressions on"),
    "In": _words("this expressions query"),
    "Cast": _words("this to"),
    "TryCast": _words("this to safe requires_string"),
    "DataType": _words("this expressions nested"),
    "Literal": _words("this is_string"),
    "Var": _words("this"),
    "Window": _words("this partition_by order spec alias over first"),
    "WindowSpec": _words("kind start start_side end end_side"),
    "Exists": _words("this"),
    "JSONExtract": _words("this expression only_json_types"),
    "JSONExtractScalar": _words("this expression only_json_types scalar_only"),
}

FUNCTIONS: Final = _words(
    # aggregates
    "Count CountIf Sum Avg Min Max Median Stddev StddevPop StddevSamp Variance VariancePop Corr CovarPop CovarSamp "
    "GroupConcat AnyValue LogicalAnd LogicalOr Mode PercentileCont PercentileDisc Quantile ApproxDistinct ArgMax "
    "ArgMin First Last Grouping "
    # windows
    "RowNumber Rank DenseRank PercentRank CumeDist Ntile Lag Lead FirstValue LastValue NthValue "
    # numbers
    "Abs Ceil Floor Round Trunc Sign Sqrt Cbrt Exp Ln Log Pow Greatest Least Degrees Radians Pi Sin Cos Tan Asin Acos "
    "Atan Atan2 IsNan IsInf WidthBucket "
    # texts
    "Upper Lower Initcap Length Trim Substring SubstringIndex Left Right Concat ConcatWs Replace Reverse StrPosition "
    "Contains StartsWith EndsWith SplitPart Ascii Chr Unicode Hex Levenshtein RegexpLike RegexpILike RegexpExtract "
    "RegexpReplace RegexpFullMatch Translate Soundex MD5 "
    # conditions
    "Coalesce Nullif "
    # times
    "CurrentDate CurrentTime CurrentTimestamp CurrentDatetime Localtime Localtimestamp Extract DateTrunc "
    "TimestampTrunc DateAdd DateSub DateDiff DatetimeAdd DatetimeSub DatetimeDiff TimestampAdd TimestampSub "
    "TimestampDiff TimeAdd "
    "TimeSub Date Time Datetime Timestamp Year Quarter Month Week WeekOfYear Day DayOfWeek DayOfWeekIso DayOfMonth "
    "DayOfYear Hour Minute Second Dayname Monthname LastDay DateFromParts MakeInterval StrToDate StrToTime TimeToStr "
    "ToChar TimeStrToTime TimeStrToDate TsOrDsToDate TsOrDsToTimestamp TsOrDsToTime TsOrDsAdd TsOrDsDiff "
    "TsOrDsToDateStr DateStrToDate UnixToTime TimeToUnix StrToUnix ToDays MonthsBetween AddMonths "
    # JSON
    "JSONExtract JSONExtractScalar JSONType"
)

# Functions that sqlglot knows by no class.
OTHER_FUNCTIONS: Final = _words(
    "age now date date_part datetime julianday strftime total time timediff "
    "unixepoch isfinite to_days weekday char_length octet_length btrim nvl ifnull iif sinh cosh tanh mod bool_and "
    "bool_or every"
)

TYPES: Final = _words(
    "BIGINT BOOLEAN CHAR DATE DATETIME DECIMAL DOUBLE FLOAT INT INTERVAL JSON JSONB MEDIUMINT NCHAR NVARCHAR SMALLINT "
    "TEXT TIME TIMETZ TIMESTAMP TIMESTAMPTZ TINYINT UBIGINT UINT USMALLINT UTINYINT UUID VARCHAR INT128 BIGDECIMAL "
    "UDECIMAL UDOUBLE TIMESTAMPNTZ YEAR"
)

UNIT_PARENTS: Final = _words(
    "Interval Extract DateTrunc TimestampTrunc DateAdd DateSub DateDiff DatetimeAdd DatetimeSub DatetimeDiff "
    "TimestampAdd TimestampSub TimestampDiff TimeAdd TimeSub TsOrDsAdd TsOrDsDiff"
)

# Each is a function or a sequence, although it is written like a column.
COLUMNS_REFUSED: Final = _words(
    "nextval currval user current_user session_user system_user current_role current_catalog current_schema"
)
