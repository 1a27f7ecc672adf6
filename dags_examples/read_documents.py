"""Read documents and images: one by one, and as the rows of a table."""

from __future__ import annotations

import base64
import datetime
import tempfile
from pathlib import Path

from airflow.providers.common.compat.sdk import dag, task
from pydantic import BaseModel

from airflow_provider_responses.content import InputFile
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator

# In production a bucket, such as "s3://my_connection@documents/inbox".
INBOX = f"{tempfile.gettempdir()}/inbox"

PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


# [start documents]
class Invoice(BaseModel):
    number: str
    total: float


@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), tags=["responses"])
def read_documents():
    @task
    def receive() -> list[dict[str, str]]:
        """Stands for a sensor: write files, and return their names."""
        inbox = Path(INBOX)
        inbox.mkdir(parents=True, exist_ok=True)
        (inbox / "invoice.pdf").write_bytes(PDF)
        (inbox / "photo.png").write_bytes(PNG)
        return [{"id": "t1", "path": "photo.png"}, {"id": "t2", "path": "invoice.pdf"}]

    received = receive()

    invoice = ResponsesOperator(
        task_id="invoice",
        model="openai/gpt-4o-mini",
        instructions="Read the invoice.",
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is its number, and its total in euros?"},
                    InputFile.from_path(f"{INBOX}/invoice.pdf"),
                ],
            }
        ],
        output_type=Invoice,
    )

    describe = ResponsesEnrichOperator(
        task_id="describe",
        source=received,
        key="id",
        files="{{ row.path }}",
        files_root=INBOX,  # no row reads a file elsewhere
        input="Describe this file in one sentence.",
        model="openai/gpt-4o-mini",
        output_path=f"{tempfile.gettempdir()}/described/{{{{ run_id }}}}",
    )

    received >> [invoice, describe]


read_documents()
# [end documents]
