"""Tasks over sequences of letters (DNA, RNA, proteins, molecules), one file each."""
